/** @file Objects of an S3-compatible server below one prefix, with bounds and retries on every call and errors that say what is wrong. */

import type { S3Client } from '@aws-sdk/client-s3';
import { EpsilonflowError } from '../schemas/errors.ts';

export interface StoredObject {
  name: string;
  bytes: number;
  etag: string;
  /** Milliseconds since 1970, by the server's clock. */
  modified: number;
}

/** When a put may happen: always, only where nothing is, or only over the object that had this tag. */
export type PutCondition = 'always' | 'absent' | { etag: string };

/** Of one call, milliseconds; a try that fails for the network or an overloaded server is made again. */
const bounds = { connect: 5_000, idle: 30_000, request: 120_000 };
const mostTries = 5;

export class ObjectStorage {
  readonly url: string;
  private readonly bucket: string;
  private readonly prefix: string;
  private opened: Promise<S3Client> | null = null;

  /** @param url `s3://BUCKET/PREFIX`. @throws EpsilonflowError ARGUMENT_INVALID */
  constructor(url: string) {
    const parts = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([\w!.*'()/-]*))?$/.exec(url);
    if (!parts) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `EPSILONFLOW_STORE_URL=${url} names no store.`, {
        hint: 'It is s3://BUCKET/PREFIX; buckets have 3 to 63 small letters, digits, points and hyphens.',
      });
    }
    this.url = url;
    this.bucket = parts[1]!;
    const prefix = (parts[2] ?? '').replace(/^\/+|\/+$/g, '');
    this.prefix = prefix === '' ? '' : `${prefix}/`;
  }

  /** Null where there is none. */
  async get(name: string): Promise<{ content: Buffer; etag: string } | null> {
    const { GetObjectCommand } = await import('@aws-sdk/client-s3');
    return this.call('reading', async (client) => {
      for (let tries = 1; ; tries += 1) {
        const found = await client.send(new GetObjectCommand(this.at(name))).catch(nullIfAbsent);
        if (found === null) return null;
        try {
          return { content: Buffer.from(await found.Body!.transformToByteArray()), etag: found.ETag! };
        } catch (error) {
          // Cut off in the middle, which the client does not try again by itself.
          if (tries === mostTries) throw error;
        }
      }
    });
  }

  /** @returns the tag of the new object; null when the condition did not hold */
  async put(name: string, content: Uint8Array, condition: PutCondition = 'always'): Promise<string | null> {
    const { PutObjectCommand } = await import('@aws-sdk/client-s3');
    const only =
      condition === 'always' ? {} : condition === 'absent' ? { IfNoneMatch: '*' } : { IfMatch: condition.etag };
    const parameters = { ...this.at(name), Body: content, ContentLength: content.length, ...only };
    return this.call('writing', async (client) => {
      const answer = await client.send(new PutObjectCommand(parameters)).catch((error: unknown) => {
        if (condition !== 'always' && isConditionFailed(error)) return null;
        throw error;
      });
      return answer === null ? null : answer.ETag!;
    });
  }

  /**
   * All below a prefix, sorted by name.
   *
   * @param after leaves out names up to this one
   */
  async list(prefix: string, after?: string): Promise<StoredObject[]> {
    const { paginateListObjectsV2 } = await import('@aws-sdk/client-s3');
    return this.call('listing', async (client) => {
      const found: StoredObject[] = [];
      const from = after === undefined ? {} : { StartAfter: this.prefix + after };
      const pages = paginateListObjectsV2({ client }, { Bucket: this.bucket, Prefix: this.prefix + prefix, ...from });
      for await (const { Contents = [] } of pages) {
        for (const { Key = '', Size = 0, ETag = '', LastModified } of Contents) {
          // Servers over a file system list folders, too.
          if (Key.endsWith('/')) continue;
          const modified = LastModified?.getTime() ?? 0;
          found.push({ name: Key.slice(this.prefix.length), bytes: Size, etag: ETag, modified });
        }
      }
      return found;
    });
  }

  /** Names of the folders in a folder, which ends with a slash. */
  async folders(folder: string): Promise<string[]> {
    const { paginateListObjectsV2 } = await import('@aws-sdk/client-s3');
    const Prefix = this.prefix + folder;
    return this.call('listing', async (client) => {
      const found: string[] = [];
      for await (const page of paginateListObjectsV2({ client }, { Bucket: this.bucket, Prefix, Delimiter: '/' })) {
        for (const common of page.CommonPrefixes ?? []) found.push(common.Prefix!.slice(Prefix.length, -1));
      }
      return found;
    });
  }

  /** No error where there is none. */
  async remove(names: readonly string[]): Promise<void> {
    const { DeleteObjectCommand } = await import('@aws-sdk/client-s3');
    for (const name of names) {
      await this.call('removing', async (client) => {
        await client.send(new DeleteObjectCommand(this.at(name))).catch(nullIfAbsent);
      });
    }
  }

  private at(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: this.prefix + name };
  }

  private async call<T>(doing: string, work: (client: S3Client) => Promise<T>): Promise<T> {
    this.opened ??= openClient();
    const client = await this.opened;
    try {
      return await work(client);
    } catch (error) {
      throw this.explained(doing, error);
    }
  }

  private explained(doing: string, error: unknown): Error {
    if (error instanceof EpsilonflowError) return error;
    const { name, message } = error as Error;
    const status = statusOf(error);
    const refused = (why: string, hint: string): EpsilonflowError =>
      new EpsilonflowError('STORE_REFUSED', `The store ${this.url} can't be used: ${why}.`, { hint, cause: error });
    if (name === 'NoSuchBucket') {
      return refused(`there is no bucket ${this.bucket}`, 'Make the bucket, or correct EPSILONFLOW_STORE_URL.');
    }
    if (name === 'CredentialsProviderError') {
      return refused('no credentials are set', 'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.');
    }
    if (status === 401 || status === 403) {
      return refused(
        `${doing} was refused (${name})`,
        'Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and let them read, write, list and remove below the prefix.',
      );
    }
    const said = status === undefined ? message || name : `${name}, status ${status}`;
    return new EpsilonflowError('SERVICE_UNREACHABLE', `The store ${this.url} gave no answer (${doing}: ${said}).`, {
      hint: 'Check that its server runs, and AWS_ENDPOINT_URL_S3, AWS_REGION and the network.',
      cause: error,
    });
  }
}

/** Credentials, profiles and endpoint as in other programs that use the SDK: `AWS_*`. */
async function openClient(): Promise<S3Client> {
  // Which versions of Node are supported, package.json says.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const { S3Client } = await import('@aws-sdk/client-s3');
  const { AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL } = process.env;
  return new S3Client({
    region: AWS_REGION || AWS_DEFAULT_REGION || 'us-east-1',
    // Servers of one's own have no host name a bucket.
    forcePathStyle: Boolean(AWS_ENDPOINT_URL_S3 || AWS_ENDPOINT_URL),
    maxAttempts: mostTries,
    // What is read is held against a digest or a seal of our own: to be altered is no failure of the call.
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: bounds.connect,
      socketTimeout: bounds.idle,
      requestTimeout: bounds.request,
      throwOnRequestTimeout: true,
    },
  });
}

const statusOf = (error: unknown): number | undefined =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;

function nullIfAbsent(error: unknown): null {
  if ((error as Error).name === 'NoSuchKey') return null;
  throw error;
}

/** Another object is there; or it is gone, or two puts met. */
const isConditionFailed = (error: unknown): boolean =>
  [409, 412].includes(statusOf(error) ?? 0) || (error as Error).name === 'NoSuchKey';
