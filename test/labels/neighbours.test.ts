import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerUrl, statePaths } from '../../stack/paths.ts';
import { ensureServices, stopServices } from '../../stack/services.ts';
import { stopWorker } from '../../stack/worker-process.ts';
import { readEvents } from '../../tracking/events.ts';
import { resolveRun } from '../../tracking/runs.ts';
import { epsilonflow, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import { filesBelow } from './find-traces.ts';
import { openPrivateWorld, specOf } from './private-world.ts';

/** Where the two worlds stand and whose servers both use. */
const worlds: TinyWorld[] = [];
let address = '';
let mlflow = '';

beforeAll(async () => {
  worlds.push(await openPrivateWorld({ train: 200, test: 60 }));
  const services = await ensureServices();
  address = services.temporal.address;
  mlflow = services.mlflow!.uri;
});
afterAll(async () => {
  await stopWorker();
  enter(worlds[0]!);
  delete process.env['TEMPORAL_ADDRESS'];
  await stopWorker();
  await stopServices();
  for (const world of worlds) world.remove();
});

/** Makes a world's state folder and ledger those of this process. */
function enter({ environment }: TinyWorld): void {
  for (const name of ['EPSILONFLOW_HOME', 'EPSILONFLOW_LEDGER_URL']) process.env[name] = environment[name];
}

/** One train record becomes another one, long and of the other class; one test record is gone. */
function changeOneRow(world: TinyWorld): void {
  const train = readFileSync(join(world.folder, 'people.csv'), 'utf8').split('\n');
  train[20] = `"${'a much longer record with many new words '.repeat(40)}",cold`;
  world.write('people.csv', train.join('\n'));
  const test = readFileSync(join(world.folder, 'people-test.jsonl'), 'utf8').split('\n');
  test.splice(11, 1);
  world.write('people-test.jsonl', test.join('\n'));
}

/** What DP mechanisms gave, and what was computed from that alone. */
const dpOutputs = new Set([
  ...['accuracy', 'accuracyLow', 'accuracyHigh', 'macroF1', 'majority', 'testRecords'],
  ...['empty', 'truncated', 'tokens', 'real', 'synthetic'],
  ...['real.mean', 'real.low', 'real.high', 'synthetic.mean', 'synthetic.low', 'synthetic.high'],
  'mlflow.note.content',
]);
const timesAndOrder = new Set(['time', 'seconds', 'sequence', 'timestamp', 'createdAt', 'validation']);
/** Files whose sizes follow from DP outputs. */
const dpFiles = new Set(['synthetic.jsonl', 'metrics.json', 'comparison.json']);

/** The value without times, random keys, digests, places and DP outputs. */
function normalised(value: unknown): unknown {
  if (typeof value === 'string') {
    return worlds
      .reduce((text, { folder }) => text.replaceAll(folder, 'FOLDER'), value)
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UUID')
      .replace(/(?<![.\w])[0-9a-f]{16,64}\b/g, 'HEX')
      .replace(/(whole\/1-)[0-9a-f]{8}/g, '$1RANDOM')
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');
  }
  if (Array.isArray(value)) return value.map((item) => normalised(item));
  if (typeof value !== 'object' || value === null) return value;
  const keyed = value as { key?: string; nodeId?: string };
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => {
      const known = name === 'value' && keyed.key !== undefined ? keyed.key : name;
      if (timesAndOrder.has(known)) return [name, 'TIME'];
      return [normalised(name), dpOutputs.has(known) ? 'DP' : normalised(item)];
    }),
  );
}

const sorted = (values: unknown[]): string[] => values.map((value) => JSON.stringify(value)).sort();

/** Inputs and results of all activities and children, but of those that are called by the clock. */
async function histories(workflowId: string): Promise<unknown[]> {
  const client = new Client({ connection: await Connection.connect({ address }) });
  const found: unknown[] = [];
  for await (const each of client.workflow.list()) {
    if (!each.workflowId.startsWith(workflowId)) continue;
    const { events = [] } = await client.workflow.getHandle(each.workflowId, each.runId).fetchHistory();
    const clocked = new Set(
      events!.flatMap(({ eventId, activityTaskScheduledEventAttributes: activity }) =>
        activity?.activityType?.name === 'publishToTracker' ? [String(eventId)] : [],
      ),
    );
    for (const event of events!) {
      const scheduled = event.activityTaskScheduledEventAttributes;
      const completed = event.activityTaskCompletedEventAttributes;
      if (clocked.has(String(event.eventId)) || clocked.has(String(completed?.scheduledEventId))) continue;
      const payloads = [
        ...(scheduled?.input?.payloads ?? []),
        ...(completed?.result?.payloads ?? []),
        ...(event.startChildWorkflowExecutionInitiatedEventAttributes?.input?.payloads ?? []),
        ...(event.childWorkflowExecutionCompletedEventAttributes?.result?.payloads ?? []),
        ...(event.workflowExecutionSignaledEventAttributes?.input?.payloads ?? []),
        ...(event.workflowExecutionCompletedEventAttributes?.result?.payloads ?? []),
      ];
      const data = payloads.flatMap((payload) => (payload.data?.length ? [Buffer.from(payload.data).toString()] : []));
      if (data.length > 0) found.push([scheduled?.activityType?.name ?? null, data.map((text) => JSON.parse(text))]);
    }
  }
  await client.connection.close();
  return found;
}

interface TrackedRun {
  info: { run_name: string; status: string };
  data: { tags: { key: string; value: string }[]; params?: object[]; metrics?: { key: string; value: number }[] };
  inputs: object;
}

/** The tracker gives tags and metrics in an order of its own. */
const byKey = <T extends { key: string }>(values: T[]): T[] => [...values].sort((a, b) => (a.key < b.key ? -1 : 1));

/** Everything that the tracker shows of the runs with one workflow id. */
async function tracked(workflowId: string): Promise<unknown[]> {
  const post = async (path: string, body: object): Promise<Record<string, unknown>> => {
    const response = await fetch(`${mlflow}/api/2.0/mlflow/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    return (await response.json()) as Record<string, unknown>;
  };
  const { experiments } = (await post('experiments/search', { max_results: 100 })) as {
    experiments: { experiment_id: string }[];
  };
  const { runs = [] } = (await post('runs/search', {
    experiment_ids: experiments.map(({ experiment_id: id }) => id),
    filter: `tags."epsilonflow.workflow" = '${workflowId}'`,
    max_results: 100,
  })) as { runs?: TrackedRun[] };
  return runs.map(({ info: { run_name: name, status }, data, inputs }) => ({
    name,
    status,
    params: sorted(data.params ?? []),
    tags: byKey(data.tags.filter(({ key }) => key !== 'mlflow.parentRunId' && !key.startsWith('mlflow.log'))),
    metrics: byKey(data.metrics ?? []),
    inputs,
  }));
}

/** Runs the spec in a world and returns what anyone may see of it, normalised. */
async function visible(world: TinyWorld): Promise<Record<string, string[]>> {
  world.environment['TEMPORAL_ADDRESS'] = address;
  world.environment['MLFLOW_TRACKING_URI'] = mlflow;
  enter(world);
  const spec = world.write('whole.yaml', specOf({ name: 'whole' }));
  const printed = await epsilonflow(world, 'plan', spec, '--json');
  const { code, stderr } = await epsilonflow(world, 'run', spec, '--json');
  expect([code, stderr]).toEqual([0, expect.anything()]);
  const published = await epsilonflow(world, 'publish', 'whole');
  expect(published.code).toBe(0);
  const ledger = await openLedger(ledgerUrl());
  const summaries = await Promise.all((await ledger.accounts()).map((name) => ledger.accountSummary(name)));
  const { sequence } = await ledger.head();
  await ledger.close();
  await stopWorker();

  const { record, directory } = resolveRun('whole/1');
  const manifests = filesBelow(statePaths.sharedStore()).filter((file) => basename(file) === 'manifest.json');
  const artifacts = manifests.map((file) => {
    const manifest = JSON.parse(readFileSync(file, 'utf8')) as { files: Record<string, { bytes: number }> };
    const sizes = Object.entries(manifest.files).map(([name, { bytes }]) => [name, dpFiles.has(name) ? 'DP' : bytes]);
    return { ...manifest, files: Object.fromEntries(sizes) as object };
  });
  const parts: Record<string, unknown[]> = {
    plan: [JSON.parse(printed.stdout)],
    events: readEvents(directory).events,
    artifacts,
    histories: await histories(record.workflowId),
    tracker: await tracked(record.workflowId),
    ledger: [sequence, ...summaries],
    files: filesBelow(directory).map((file) => file.slice(directory.length)),
  };
  return Object.fromEntries(
    Object.entries(parts).map(([name, values]) => [name, sorted(values.map((item) => normalised(item)))]),
  );
}

describe('one private record more or less', () => {
  it('changes nothing that is visible but DP outputs', async () => {
    const before = await visible(worlds[0]!);
    worlds.push(await openPrivateWorld({ train: 200, test: 60 }));
    changeOneRow(worlds[1]!);
    const after = await visible(worlds[1]!);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    for (const [name, values] of Object.entries(before)) expect([name, after[name]]).toEqual([name, values]);
    // All of it was there to be compared.
    const sizes = Object.fromEntries(Object.entries(before).map(([name, values]) => [name, values.length]));
    expect(sizes).toMatchObject({ plan: 1, artifacts: 6, tracker: 7 });
    expect(sizes['events']).toBeGreaterThan(12);
    expect(sizes['histories']).toBeGreaterThan(25);
  }, 540_000);
});
