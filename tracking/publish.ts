/**
 * @file Publishes a run to MLflow: experiment = spec name, parent run = run, child run = instance.
 *
 * May be called at any time and any number of times, while the run goes on and after any crash. All that is sent is
 * made from plan, event log and store, so that a repetition sends the same. What already arrived is kept in a cursor
 * file; losing it costs time and doubles nothing.
 */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { writeDurably } from '../store/disk.ts';
import type { ArtifactReader } from '../store/index.ts';
import { connectMlflow, type MlflowClient, type MlflowRun } from './mlflow/client.ts';
import type { HttpOptions } from './mlflow/http.ts';
import { describeInstance, describeParent, nodeTag, runIdentity, runTag, type TrackedRun } from './publish/describe.ts';
import { collectResults } from './results.ts';
import { readRun } from './runs.ts';

export interface PublishedLinks {
  experiment: string;
  run: string;
  /** By node id. */
  instances: Record<string, string>;
}

/** What has arrived at one server. Never trusted for what exists there, only for what need not be sent again. */
interface Cursor {
  version: 1;
  uri: string;
  identity: string;
  /** By slug. */
  runs: Record<string, { runId: string; sent: string; curves: Record<string, number> }>;
}

/** Requests of different instances under way at once. */
const concurrency = 6;

/**
 * Sends what the tracker lacks of a run. Write the report before, so that it goes along.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE when the server stays away; call it again later.
 */
export async function publishRun(
  runDirectory: string,
  plan: Plan,
  store: ArtifactReader,
  mlflowUri: string,
  options: HttpOptions = {},
): Promise<PublishedLinks> {
  const client = connectMlflow(mlflowUri, options);
  const record = readRun(runDirectory);
  const results = await collectResults(runDirectory, plan, store);
  const experimentId = await client.experiment(plan.name);
  const identity = runIdentity(record);
  const cursor = openCursor(runDirectory, publicAddress(mlflowUri), identity);
  const parent = describeParent(record, results, runDirectory);
  const instances = plan.nodes.flatMap((node) => {
    const tracked = describeInstance(record, results, node);
    return tracked ? [{ id: node.id, tracked }] : [];
  });
  const links: PublishedLinks = { experiment: experimentLink(client, experimentId), run: '', instances: {} };

  // Two publishers at once may both create a run. A round that created any is followed by one that settles on the
  // same survivor for all publishers and makes sure that it holds everything.
  for (let created = true, round = 0; created && round < 3; round += 1) {
    const known = await knownRuns(client, experimentId, identity);
    created = false;
    const publish = async (tracked: TrackedRun, tags: TrackedRun['tags']): Promise<MlflowRun> => {
      let run = known.get(tracked.slug);
      if (!run) {
        run = await createRun(client, experimentId, identity, { ...tracked, tags }, options);
        created = true;
      }
      await send(client, run, { ...tracked, tags }, cursor.value);
      cursor.changed();
      return run;
    };
    try {
      const parentTags = [...parent.tags, { key: 'mlflow.user', value: userName() }];
      const isNew = !known.has('');
      // Its end is told last: a parent that is over has children that are.
      const parentRun = await publish(isNew ? { ...parent, status: 'RUNNING', endTime: null } : parent, parentTags);
      links.run = runLink(client, parentRun);
      await eachOf(instances, concurrency, async ({ id, tracked }) => {
        const tags = [...tracked.tags, { key: 'mlflow.parentRunId', value: parentRun.runId }];
        links.instances[id] = runLink(
          client,
          await publish(tracked, [...tags, { key: 'mlflow.user', value: userName() }]),
        );
      });
      known.set('', parentRun);
      if (isNew) await publish(parent, parentTags);
    } finally {
      await cursor.save();
    }
  }
  return links;
}

/** Runs of this publication by slug. Of several with one slug the one with the smallest id stays, the others go. */
async function knownRuns(
  client: MlflowClient,
  experimentId: string,
  identity: string,
): Promise<Map<string, MlflowRun>> {
  const bySlug = new Map<string, MlflowRun[]>();
  for (const run of await client.runsByTag(experimentId, { key: runTag, value: identity })) {
    const slug = run.tags[nodeTag] ?? '';
    bySlug.set(slug, [...(bySlug.get(slug) ?? []), run]);
  }
  const known = new Map<string, MlflowRun>();
  for (const [slug, runs] of bySlug) {
    const [survivor, ...others] = runs.sort((a, b) => (a.runId < b.runId ? -1 : 1));
    for (const other of others) await client.deleteRun(other.runId);
    known.set(slug === '-' ? '' : slug, survivor!);
  }
  return known;
}

/** Creates a run; when it is unclear whether the server did, looks before trying again. */
async function createRun(
  client: MlflowClient,
  experimentId: string,
  identity: string,
  tracked: TrackedRun,
  options: HttpOptions,
): Promise<MlflowRun> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await client.createRun({
        experimentId,
        name: tracked.name,
        startTime: tracked.startTime,
        // Tagged from the first moment on, or a crash here would leave a run that no search finds.
        tags: tracked.tags.filter(({ key }) => key === runTag || key === nodeTag || key === 'mlflow.parentRunId'),
      });
    } catch (error) {
      if (!isUnreachable(error) || attempt >= (options.attempts ?? 5)) throw error;
      await sleep(Math.min(8000, (options.backoff ?? 250) * 2 ** (attempt - 1)), undefined, { signal: options.signal });
      const made = (await knownRuns(client, experimentId, identity)).get(tracked.slug);
      if (made) return made;
    }
  }
}

/** Sends what the cursor does not know to be there; the status last, so that it is true when it says that all ended. */
async function send(client: MlflowClient, run: MlflowRun, tracked: TrackedRun, cursor: Cursor): Promise<void> {
  const before = cursor.runs[tracked.slug];
  const known = before?.runId === run.runId ? before : { runId: run.runId, sent: '', curves: {} };
  const points = [...tracked.curves].flatMap(([name, curve]) => curve.slice(known.curves[name] ?? 0));
  const state = digestOf(tracked);
  const changed = state !== known.sent;
  if (changed || points.length > 0) {
    const { tags, params, metrics } = tracked;
    await client.logBatch(
      run.runId,
      changed ? { tags, params, metrics: [...metrics, ...points] } : { metrics: points },
    );
  }
  if (changed) {
    await client.logInputs(run.runId, tracked.inputs);
    for (const { path, content } of tracked.artifacts) await client.putArtifact(run, path, content);
    const { status, endTime, name } = tracked;
    await client.updateRun(run.runId, { status, name, ...(endTime === null ? {} : { endTime }) });
  }
  const curves = Object.fromEntries([...tracked.curves].map(([name, curve]) => [name, curve.length]));
  cursor.runs[tracked.slug] = { runId: run.runId, sent: state, curves };
}

/** Digest of all but the curves, which are sent from where they stopped. */
function digestOf({ artifacts, ...tracked }: TrackedRun): string {
  const rest = { ...tracked, curves: null };
  const hash = createHash('sha256').update(
    JSON.stringify(rest, (_key, value: unknown) => (value === Infinity ? 'inf' : value)),
  );
  for (const { path, content } of artifacts) hash.update(JSON.stringify([path, content.length])).update(content);
  return hash.digest('hex');
}

interface CursorFile {
  value: Cursor;
  /** Writes it now and then. */
  changed(): void;
  save(): Promise<void>;
}

function openCursor(runDirectory: string, uri: string, identity: string): CursorFile {
  const path = join(runDirectory, 'published.json');
  const value = readCursor(path, uri, identity) ?? { version: 1, uri, identity, runs: {} };
  let writing: Promise<void> = Promise.resolve();
  let last = Date.now();
  const save = (): Promise<void> => (writing = writing.then(() => writeDurably(path, JSON.stringify(value))));
  return {
    value,
    save,
    changed() {
      if (Date.now() - last < 1000) return;
      last = Date.now();
      // A failure to write shows at the end, in the save that is waited for.
      save().catch(() => undefined);
    },
  };
}

function readCursor(path: string, uri: string, identity: string): Cursor | null {
  if (!existsSync(path)) return null;
  try {
    const cursor = JSON.parse(readFileSync(path, 'utf8')) as Cursor;
    return cursor.version === 1 && cursor.uri === uri && cursor.identity === identity ? cursor : null;
  } catch {
    return null;
  }
}

/** Works through all items, `width` at once; when some fail, the others still end before the first error is thrown. */
async function eachOf<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  const lanes = await Promise.allSettled(Array.from({ length: width }, lane));
  for (const ended of lanes) if (ended.status === 'rejected') throw ended.reason;
}

const isUnreachable = (error: unknown): boolean =>
  error instanceof EpsilonflowError && error.code === 'SERVICE_UNREACHABLE';

/** The server's address without credentials: it is written to files and shown. */
export function publicAddress(uri: string): string {
  const address = new URL(uri);
  address.username = '';
  address.password = '';
  return address.href.replace(/\/$/, '');
}

/** MLflow 3 shows its pages for chat traces unless told otherwise. */
const trainingPages = '?workflowType=machine_learning';

const experimentLink = (client: MlflowClient, id: string): string =>
  `${publicAddress(client.uri)}/#/experiments/${id}/runs${trainingPages}`;

const runLink = (client: MlflowClient, run: MlflowRun): string =>
  `${publicAddress(client.uri)}/#/experiments/${run.experimentId}/runs/${run.runId}${trainingPages}`;

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A user id without an entry in the system's list, as in containers.
    return String(process.getuid?.() ?? 'unknown');
  }
}
