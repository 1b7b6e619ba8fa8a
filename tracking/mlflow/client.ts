/**
 * @file MLflow's REST API, as far as a run's results need it. There is no working client for runs on npm.
 *
 * Every call may be repeated without doubling anything except `createRun`, which has no idempotency key: tag the run
 * and search for the tag first.
 */

import { httpSender, MlflowRefusal, type HttpOptions } from './http.ts';
import { clipDigest, splitBatch, type MlflowBatch, type MlflowTag } from './values.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';

export type MlflowRunStatus = 'RUNNING' | 'SCHEDULED' | 'FINISHED' | 'FAILED' | 'KILLED';

export interface MlflowRun {
  runId: string;
  experimentId: string;
  name: string;
  status: MlflowRunStatus;
  startTime: number;
  artifactUri: string;
  tags: Record<string, string>;
}

export interface NewRun {
  experimentId: string;
  name: string;
  /** Milliseconds since 1970. */
  startTime: number;
  tags: MlflowTag[];
}

export interface DatasetInput {
  name: string;
  /** Cut to 36 characters. */
  digest: string;
  sourceType: string;
  source: string;
  /** What it was used for: `training`, `testing`. */
  context: string;
}

export interface MlflowClient {
  readonly uri: string;
  /** Id of the experiment of that name; made if there is none. */
  experiment(name: string): Promise<string>;
  /** Runs that carry a tag, of all pages, deleted ones left out. The filter language has no escapes: no quotes in it. */
  runsByTag(experimentId: string, tag: MlflowTag): Promise<MlflowRun[]>;
  /** Of all experiments, those with a tag whose value begins so (no quotes in it), the last started first. */
  newestRuns(tag: { key: string; begins: string }, count: number): Promise<MlflowRun[]>;
  createRun(run: NewRun): Promise<MlflowRun>;
  updateRun(runId: string, change: { status: MlflowRunStatus; endTime?: number; name?: string }): Promise<void>;
  deleteRun(runId: string): Promise<void>;
  setTag(runId: string, tag: MlflowTag): Promise<void>;
  /** Metrics, params and tags, in as many requests as the server's limits ask for. */
  logBatch(runId: string, batch: MlflowBatch): Promise<void>;
  /** A dataset of the same name and digest counts once a run, whatever its context. */
  logInputs(runId: string, inputs: DatasetInput[]): Promise<void>;
  /** Writes one artifact through the server; an existing one of that path is replaced. */
  putArtifact(run: MlflowRun, path: string, content: Uint8Array): Promise<void>;
  /** Paths of a run's artifacts in a folder of it. */
  listArtifacts(runId: string, path?: string): Promise<string[]>;
}

const api = 'api/2.0/mlflow';

/** Makes MLflow 3 open the experiment with its pages for training runs rather than those for chat traces. */
const trainingPages: MlflowTag = { key: 'mlflow.experimentKind', value: 'custom_model_development' };

export function connectMlflow(uri: string, options: HttpOptions = {}): MlflowClient {
  const send = httpSender(uri, options);
  const get = (path: string, query: Record<string, string>): Promise<unknown> =>
    send({ method: 'GET', path: `${api}/${path}`, query, repeatable: true });
  const post = (path: string, body: object, repeatable = true): Promise<unknown> =>
    send({ method: 'POST', path: `${api}/${path}`, body, repeatable });

  let inputsTurn: Promise<void> = Promise.resolve();

  const experimentByName = async (name: string): Promise<string | null> => {
    try {
      const found = (await get('experiments/get-by-name', { experiment_name: name })) as { experiment: WireExperiment };
      if (found.experiment.lifecycle_stage === 'deleted') {
        throw new EpsilonflowError('ARGUMENT_INVALID', `The MLflow experiment ${name} was deleted.`, {
          hint: 'Restore it, or remove it for good with `mlflow gc`.',
        });
      }
      return found.experiment.experiment_id;
    } catch (error) {
      if (isRefusal(error, 'RESOURCE_DOES_NOT_EXIST')) return null;
      throw error;
    }
  };

  return {
    uri,

    async experiment(name) {
      const existing = await experimentByName(name);
      if (existing !== null) return existing;
      try {
        const made = (await post('experiments/create', { name, tags: [trainingPages] })) as { experiment_id: string };
        return made.experiment_id;
      } catch (error) {
        // Made by another publisher in between, or by the first attempt of this very request.
        const made = isRefusal(error, 'RESOURCE_ALREADY_EXISTS') ? await experimentByName(name) : null;
        if (made !== null) return made;
        throw error;
      }
    },

    async runsByTag(experimentId, tag) {
      const runs: MlflowRun[] = [];
      let token: string | undefined;
      do {
        const page = (await post('runs/search', {
          experiment_ids: [experimentId],
          filter: `tags.\`${tag.key}\` = '${tag.value}'`,
          max_results: 1000,
          run_view_type: 'ACTIVE_ONLY',
          ...(token === undefined ? {} : { page_token: token }),
        })) as { runs?: WireRun[]; next_page_token?: string };
        runs.push(...(page.runs ?? []).map(fromWire));
        token = page.next_page_token || undefined;
      } while (token !== undefined);
      return runs;
    },

    async newestRuns({ key, begins }, count) {
      const experimentIds: string[] = [];
      let token: string | undefined;
      do {
        const page = (await post('experiments/search', {
          max_results: 1000,
          view_type: 'ACTIVE_ONLY',
          ...(token === undefined ? {} : { page_token: token }),
        })) as { experiments?: WireExperiment[]; next_page_token?: string };
        experimentIds.push(...(page.experiments ?? []).map(({ experiment_id: id }) => id));
        token = page.next_page_token || undefined;
      } while (token !== undefined);
      if (experimentIds.length === 0) return [];
      const found = (await post('runs/search', {
        experiment_ids: experimentIds,
        filter: `tags.\`${key}\` LIKE '${begins}%'`,
        max_results: count,
        run_view_type: 'ACTIVE_ONLY',
        order_by: ['attributes.start_time DESC'],
      })) as { runs?: WireRun[] };
      return (found.runs ?? []).map(fromWire);
    },

    async createRun(run) {
      const body = { experiment_id: run.experimentId, run_name: run.name, start_time: run.startTime, tags: run.tags };
      const made = (await post('runs/create', body, false)) as { run: WireRun };
      return fromWire(made.run);
    },

    async updateRun(runId, change) {
      await post('runs/update', {
        run_id: runId,
        status: change.status,
        ...(change.endTime === undefined ? {} : { end_time: change.endTime }),
        ...(change.name === undefined ? {} : { run_name: change.name }),
      });
    },

    async deleteRun(runId) {
      await post('runs/delete', { run_id: runId });
    },

    async setTag(runId, tag) {
      await post('runs/set-tag', { run_id: runId, ...tag });
    },

    async logBatch(runId, batch) {
      for (const request of splitBatch(batch)) await post('runs/log-batch', { run_id: runId, ...request });
    },

    async logInputs(runId, inputs) {
      if (inputs.length === 0) return;
      const body = {
        run_id: runId,
        datasets: inputs.map((input) => ({
          tags: [{ key: 'mlflow.data.context', value: input.context }],
          dataset: {
            name: input.name,
            digest: clipDigest(input.digest),
            source_type: input.sourceType,
            source: input.source,
          },
        })),
      };
      // The server looks for a dataset and then inserts it, so that two requests at once collide: one at a time here,
      // and again when another publisher was in between.
      const log = async (): Promise<void> => {
        for (let attempt = 1; ; attempt += 1) {
          try {
            await post('runs/log-inputs', body);
            return;
          } catch (error) {
            const collided = error instanceof MlflowRefusal && /UNIQUE|unique|IntegrityError/.test(error.message);
            if (!collided || attempt === 5) throw error;
          }
        }
      };
      const turn = inputsTurn.then(log);
      inputsTurn = turn.catch(() => undefined);
      await turn;
    },

    async putArtifact(run, path, content) {
      await send({
        method: 'PUT',
        path: `api/2.0/mlflow-artifacts/artifacts/${proxiedFolder(run)}/${path.split('/').map(encodeURIComponent).join('/')}`,
        body: content,
        contentType: 'application/octet-stream',
        repeatable: true,
      });
    },

    async listArtifacts(runId, path) {
      const listing = (await get('artifacts/list', { run_id: runId, ...(path === undefined ? {} : { path }) })) as {
        files?: { path: string }[];
      };
      return (listing.files ?? []).map((file) => file.path);
    },
  };
}

interface WireExperiment {
  experiment_id: string;
  lifecycle_stage: string;
}

interface WireRun {
  info: {
    run_id: string;
    experiment_id: string;
    run_name: string;
    status: MlflowRunStatus;
    start_time: number | string;
    artifact_uri: string;
  };
  data: { tags?: MlflowTag[] };
}

const fromWire = (run: WireRun): MlflowRun => ({
  runId: run.info.run_id,
  experimentId: run.info.experiment_id,
  name: run.info.run_name,
  status: run.info.status,
  startTime: Number(run.info.start_time),
  artifactUri: run.info.artifact_uri,
  tags: Object.fromEntries((run.data.tags ?? []).map(({ key, value }) => [key, value])),
});

const isRefusal = (error: unknown, code: string): boolean => error instanceof MlflowRefusal && error.code === code;

/** `mlflow-artifacts:/1/abc/artifacts` -> `1/abc/artifacts`. */
function proxiedFolder(run: MlflowRun): string {
  const uri = new URL(run.artifactUri);
  if (uri.protocol !== 'mlflow-artifacts:') {
    throw new EpsilonflowError(
      'SERVICE_UNREACHABLE',
      `The MLflow server keeps artifacts at ${uri.protocol}//, not through itself.`,
      {
        hint: 'Start it with --artifacts-destination (and --serve-artifacts, the default), so that clients need no access of their own.',
      },
    );
  }
  return uri.pathname.replace(/^\/+/, '');
}
