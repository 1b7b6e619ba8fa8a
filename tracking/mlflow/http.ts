/** @file Requests to an MLflow server: time limits, retries with backoff, and errors that say what to do. */

import { setTimeout as sleep } from 'node:timers/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';

export interface HttpOptions {
  /** Milliseconds that one attempt may take; 30,000 by default. */
  timeout?: number;
  /** Attempts in all for a request that may be repeated; 5 by default. */
  attempts?: number;
  /** Milliseconds before the second attempt, doubled each time, up to 8 s; 250 by default. */
  backoff?: number;
  signal?: AbortSignal;
}

export interface HttpRequest {
  method: 'GET' | 'POST' | 'PUT';
  /** Below the server's address, no leading slash: `api/2.0/mlflow/...`. */
  path: string;
  query?: Record<string, string>;
  /** Sent as JSON, or as it is when bytes. */
  body?: object | Uint8Array;
  contentType?: string;
  /**
   * False when a repetition could do the thing twice. It is then repeated only when the server said that it did
   * nothing (429, or the connection was refused).
   */
  repeatable: boolean;
}

/** MLflow's own refusal of a request, such as RESOURCE_DOES_NOT_EXIST: repeating it changes nothing. */
export class MlflowRefusal extends Error {
  override readonly name = 'MlflowRefusal';
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number, message: string) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export type Send = (request: HttpRequest) => Promise<unknown>;

/**
 * A function that sends requests to one server. Credentials come from the address or from MLflow's own variables
 * MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE, MlflowRefusal
 */
export function httpSender(uri: string, options: HttpOptions = {}): Send {
  const { base, authorization } = parseAddress(uri);
  const attempts = options.attempts ?? 5;

  return async (request) => {
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await attemptOnce(base, authorization, request, options);
      if ('result' in outcome) return outcome.result;
      options.signal?.throwIfAborted();
      const mayRepeat = request.repeatable || !outcome.mayHaveHappened;
      if (!mayRepeat || attempt >= attempts) throw outcome.error;
      await sleep(Math.max(outcome.wait, Math.min(8000, (options.backoff ?? 250) * 2 ** (attempt - 1))), undefined, {
        signal: options.signal,
      });
    }
  };
}

type Outcome = { result: unknown } | { error: EpsilonflowError; mayHaveHappened: boolean; wait: number };

async function attemptOnce(
  base: URL,
  authorization: string | null,
  request: HttpRequest,
  options: HttpOptions,
): Promise<Outcome> {
  const url = new URL(request.path, base);
  for (const [name, value] of Object.entries(request.query ?? {})) url.searchParams.set(name, value);
  const timeout = AbortSignal.timeout(options.timeout ?? 30_000);
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      method: request.method,
      headers: {
        // The server answers 415 to a JSON route without it.
        'content-type': request.contentType ?? 'application/json',
        ...(authorization === null ? {} : { authorization }),
      },
      body: request.body instanceof Uint8Array ? request.body : request.body && JSON.stringify(request.body),
      signal: options.signal ? AbortSignal.any([timeout, options.signal]) : timeout,
    });
    text = await response.text();
  } catch (cause) {
    options.signal?.throwIfAborted();
    const code = connectionCode(cause);
    return {
      error: unreachable(
        base,
        timeout.aborted ? 'it did not answer in time' : `the connection failed (${code})`,
        cause,
      ),
      mayHaveHappened: code !== 'ECONNREFUSED' && code !== 'ENOTFOUND',
      wait: 0,
    };
  }
  if (response.ok) return { result: parseBody(text) };
  if (response.status === 429 || response.status >= 500) {
    return {
      error: unreachable(base, `it answered ${response.status} to ${request.path}`),
      mayHaveHappened: response.status !== 429,
      wait: retryAfter(response),
    };
  }
  throw refusal(base, request, response.status, text);
}

function refusal(base: URL, request: HttpRequest, status: number, text: string): Error {
  if (status === 403 && text.includes('Invalid Host header')) {
    return new EpsilonflowError(
      'SERVICE_UNREACHABLE',
      `MLflow at ${base.origin} refuses the host name ${base.host} (403).`,
      {
        hint: `Start the server with --allowed-hosts ${base.host}, or use an address that it allows, such as localhost.`,
      },
    );
  }
  if (status === 401 || status === 403) {
    return new EpsilonflowError('SERVICE_UNREACHABLE', `MLflow at ${base.origin} refuses access (${status}).`, {
      hint: 'Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.',
    });
  }
  const body = parseBody(text) as { error_code?: unknown; message?: unknown } | null;
  if (typeof body?.error_code === 'string') {
    return new MlflowRefusal(body.error_code, status, `${request.path}: ${String(body.message ?? body.error_code)}`);
  }
  return new EpsilonflowError(
    'SERVICE_UNREACHABLE',
    `${base.origin} answered ${status} to ${request.path}: no MLflow server?`,
    {
      hint: 'Check MLFLOW_TRACKING_URI.',
    },
  );
}

const unreachable = (base: URL, what: string, cause?: unknown): EpsilonflowError =>
  new EpsilonflowError('SERVICE_UNREACHABLE', `MLflow at ${base.origin} can't be reached: ${what}.`, {
    hint: 'Start it with `epsilonflow up`, or check MLFLOW_TRACKING_URI; then `epsilonflow publish RUN`.',
    cause,
  });

function parseAddress(uri: string): { base: URL; authorization: string | null } {
  let base: URL;
  try {
    base = new URL(uri.endsWith('/') ? uri : `${uri}/`);
  } catch {
    throw badAddress(uri);
  }
  if (base.protocol !== 'http:' && base.protocol !== 'https:') throw badAddress(uri);
  const user = decodeURIComponent(base.username) || process.env['MLFLOW_TRACKING_USERNAME'];
  const password = decodeURIComponent(base.password) || (process.env['MLFLOW_TRACKING_PASSWORD'] ?? '');
  base.username = '';
  base.password = '';
  const token = process.env['MLFLOW_TRACKING_TOKEN'];
  if (user) return { base, authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
  return { base, authorization: token ? `Bearer ${token}` : null };
}

const badAddress = (uri: string): EpsilonflowError =>
  new EpsilonflowError('ARGUMENT_INVALID', `MLFLOW_TRACKING_URI is no address of an MLflow server: ${uri}`, {
    hint: 'Give http://HOST:PORT; files and databases are reached through a server.',
  });

const parseBody = (text: string): unknown => {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
};

const connectionCode = (cause: unknown): string => {
  const inner = (cause as { cause?: { code?: unknown } }).cause;
  return typeof inner?.code === 'string' ? inner.code : cause instanceof Error ? cause.name : 'unknown';
};

const retryAfter = (response: Response): number => {
  const seconds = Number(response.headers.get('retry-after'));
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(30, seconds) * 1000 : 0;
};
