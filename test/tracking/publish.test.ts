import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { publishRun } from '../../tracking/publish.ts';
import { writeReport } from '../../tracking/report.ts';
import { makeUpRun, ownState, payFor, writeEvents, type MadeUpRun } from './made-up-run.ts';
import { startMlflow, type MlflowServer } from './mlflow-server.ts';

interface ServerRun {
  info: { run_id: string; run_name: string; status: string; start_time: number; end_time?: number };
  data: {
    tags: { key: string; value: string }[];
    params?: { key: string; value: string }[];
    metrics?: { key: string; value: number }[];
  };
  inputs: { dataset_inputs?: { dataset: { name: string; digest: string } }[] };
}

/** The one entry that a run's log names for a node. */
function ledgerEntryOf({ events }: MadeUpRun, node: string): string {
  const completed = events.find((event) => event.type === 'node-completed' && event.node === node);
  if (completed?.type !== 'node-completed') throw new Error(`${node} did not complete`);
  return completed.ledgerEntries!.join();
}

let mlflow: MlflowServer;
let removeState: () => void;
beforeAll(async () => {
  mlflow = await startMlflow();
}, 120_000);
afterAll(() => mlflow.stop());
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

const ask = async <T>(path: string, body?: object): Promise<T> => {
  const response = await fetch(`${mlflow.uri}/api/2.0/mlflow/${path}`, {
    headers: { 'content-type': 'application/json' },
    ...(body ? { method: 'POST', body: JSON.stringify(body) } : {}),
  });
  return (await response.json()) as T;
};

async function runsOf(experiment: string): Promise<ServerRun[]> {
  const found = await ask<{ experiment: { experiment_id: string } }>(
    `experiments/get-by-name?experiment_name=${experiment}`,
  );
  const page = await ask<{ runs?: ServerRun[] }>('runs/search', {
    experiment_ids: [found.experiment.experiment_id],
    max_results: 1000,
  });
  return page.runs ?? [];
}

const tagsOf = (run: ServerRun): Record<string, string> =>
  Object.fromEntries(run.data.tags.map(({ key, value }) => [key, value]));
const named = (runs: ServerRun[], name: string): ServerRun => runs.find(({ info }) => info.run_name === name)!;
const history = async (run: ServerRun, metric: string): Promise<{ step: number; value: number }[]> => {
  const query = `run_id=${run.info.run_id}&metric_key=${encodeURIComponent(metric)}&max_results=1000`;
  return (await ask<{ metrics?: { step: number; value: number }[] }>(`metrics/get-history?${query}`)).metrics ?? [];
};
const artifactsOf = async (run: ServerRun): Promise<string[]> =>
  ((await ask<{ files?: { path: string }[] }>(`artifacts/list?run_id=${run.info.run_id}`)).files ?? []).map(
    ({ path }) => path,
  );

const publish = ({ directory, plan, store }: MadeUpRun, uri = mlflow.uri): ReturnType<typeof publishRun> =>
  publishRun(directory, plan, store, uri, { backoff: 20 });

async function report(run: MadeUpRun): Promise<void> {
  const ledger = await payFor(run);
  await writeReport(run.directory, run.plan, { store: run.store, ledger: () => Promise.resolve(ledger) });
  await ledger.close();
}

describe('a published run', () => {
  it('has one parent, a child for each instance, and what the plan and the store say of them', async () => {
    const run = await makeUpRun({ name: 'complete' });
    await report(run);
    const links = await publish(run);
    const runs = await runsOf('complete');
    expect(runs).toHaveLength(run.plan.nodes.length + 1);

    const parent = named(runs, 'complete/1');
    expect(parent.info.status).toBe('FINISHED');
    expect(links.run).toContain(parent.info.run_id);
    expect(tagsOf(parent)['epsilonflow.plan']).toBe(run.plan.digest);
    expect(tagsOf(parent)['mlflow.note.content']).toMatch(/0\.712 \(95 % interval 0\.700 to 0\.724, n = 2\)/);
    expect(await artifactsOf(parent)).toEqual(['plan.json', 'report.html', 'report.md']);

    const generator = named(runs, 'generator[dataset=speeches,epsilon=8,seed=1]');
    expect(tagsOf(generator)).toMatchObject({
      'mlflow.parentRunId': parent.info.run_id,
      'epsilonflow.workflow': run.record.workflowId,
      'epsilonflow.label': 'dp',
      'epsilonflow.epsilon': '7.996',
      'epsilonflow.target_epsilon': '8',
      'epsilonflow.delta': '0.0000018',
      'epsilonflow.ledger_entry': ledgerEntryOf(run, 'generator[dataset=speeches,epsilon=8,seed=1]'),
      'epsilonflow.reused': 'false',
    });
    expect(tagsOf(generator)['epsilonflow.mechanism']).toContain('noise multiplier 0.5, 50 steps');
    expect(generator.data.params).toContainEqual({ key: 'method.rank', value: '8' });
    expect(generator.data.params).toContainEqual({ key: 'epsilon', value: '8' });
    expect(generator.inputs.dataset_inputs!.map(({ dataset }) => [dataset.name, dataset.digest])).toEqual([
      ['speeches/train', run.plan.datasets['speeches']!.digest.slice(0, 36)],
    ]);
    expect((await history(generator, 'loss')).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);

    const reused = named(runs, 'on-real[dataset=speeches,epsilon=inf,seed=1]');
    expect(tagsOf(reused)['epsilonflow.reused']).toBe('true');
    expect(tagsOf(reused)['epsilonflow.epsilon']).toBe('∞');

    const comparison = named(runs, 'comparison[dataset=speeches,epsilon=8]');
    const metrics = Object.fromEntries(comparison.data.metrics!.map(({ key, value }) => [key, value]));
    expect(metrics).toMatchObject({ 'synthetic.n': 2, majority: 0.538 });
    expect(metrics['synthetic.low']).toBeLessThan(metrics['synthetic.mean']!);
    expect(await artifactsOf(comparison)).toEqual(['comparison.json']);
    expect(runs.every(({ info }) => info.status === 'FINISHED' && info.end_time! >= info.start_time)).toBe(true);
  });

  it('shows rows only of synthetic sets that may be released', async () => {
    const run = await makeUpRun({ name: 'samples', seeds: [1], epsilons: [8, 'inf'] });
    await publish(run);
    const runs = await runsOf('samples');
    expect(await artifactsOf(named(runs, 'synthetic[dataset=speeches,epsilon=8,seed=1]'))).toEqual([
      'sample-first-20-rows.jsonl',
    ]);
    expect(await artifactsOf(named(runs, 'synthetic[dataset=speeches,epsilon=inf,seed=1]'))).toEqual([]);
  });

  it('is the same after it was published again, with and without the cursor', async () => {
    const run = await makeUpRun({ name: 'again', seeds: [1], epsilons: [8] });
    const first = await publish(run);
    const before = await runsOf('again');
    expect(await publish(run)).toEqual(first);
    rmSync(join(run.directory, 'published.json'));
    expect(await publish(run)).toEqual(first);
    expect(await runsOf('again')).toEqual(before);
    const generator = named(before, 'generator[dataset=speeches,epsilon=8,seed=1]');
    expect(await history(generator, 'loss')).toHaveLength(5);
    expect(await history(generator, 'seconds')).toHaveLength(1);
  });

  it('grows with the run, and its statuses are true at each time', async () => {
    const run = await makeUpRun({ name: 'growing', seeds: [1], epsilons: [8], stopAfter: 4 });
    const generator = 'generator[dataset=speeches,epsilon=8,seed=1]';
    await publish(run);
    let runs = await runsOf('growing');
    expect(runs.map(({ info }) => [info.run_name, info.status]).sort()).toEqual([
      [generator, 'RUNNING'],
      ['growing/1', 'RUNNING'],
    ]);
    expect(await history(named(runs, generator), 'loss')).toHaveLength(2);
    writeEvents(run.directory, run.events.slice(4));
    await publish(run);
    runs = await runsOf('growing');
    expect(runs).toHaveLength(run.plan.nodes.length + 1);
    expect(new Set(runs.map(({ info }) => info.status))).toEqual(new Set(['FINISHED']));
    expect(await history(named(runs, generator), 'loss')).toHaveLength(5);
  });

  it('leaves no child running when the run was cancelled or its worker died', async () => {
    const run = await makeUpRun({ name: 'cancelled', seeds: [1], epsilons: [8], stopAfter: 4 });
    await publish(run);
    writeEvents(run.directory, [{ type: 'run-completed', time: run.events[3]!.time + 5, status: 'cancelled' }]);
    await publish(run);
    expect((await runsOf('cancelled')).map(({ info }) => info.status)).toEqual(['KILLED', 'KILLED']);
  });

  it('keeps figures, rows and messages of private data inside', async () => {
    const failing = 'generator[dataset=speeches,epsilon=3,seed=1]';
    const run = await makeUpRun({
      name: 'secret',
      sensitivity: 'private',
      seeds: [1],
      epsilons: [3, 8],
      failing: [failing],
    });
    await report(run);
    await publish(run);
    const runs = await runsOf('secret');
    const everything = JSON.stringify(runs);
    expect(everything).not.toContain('my secret');
    expect(everything).not.toContain('/data/speeches');
    const keys = new Set(runs.flatMap(({ data }) => (data.metrics ?? []).map(({ key }) => key)));
    expect([...keys].filter((key) => /accuracy|macroF1|loss|majority|mean/.test(key))).toEqual([]);
    expect(named(runs, failing).info.status).toBe('FAILED');
    expect(await artifactsOf(named(runs, 'comparison[dataset=speeches,epsilon=8]'))).toEqual([]);
    expect(await artifactsOf(named(runs, 'synthetic[dataset=speeches,epsilon=8,seed=1]'))).toHaveLength(1);
  });

  it('doubles and loses nothing when the connection breaks before or after any call', async () => {
    const run = await makeUpRun({ name: 'rough', seeds: [1], epsilons: [8] });
    const proxy = await roughProxy(mlflow.uri);
    try {
      let tries = 0;
      for (let done = false; !done; tries += 1) {
        expect(tries).toBeLessThan(60);
        done = await publishRun(run.directory, run.plan, run.store, proxy.uri, { attempts: 1, backoff: 1 }).then(
          () => true,
          () => false,
        );
      }
      expect(tries).toBeGreaterThan(2);
      expect(proxy.failures()).toEqual(new Set(['before', 'after', 'answered 500']));
    } finally {
      await proxy.close();
    }
    const runs = await runsOf('rough');
    expect(runs).toHaveLength(run.plan.nodes.length + 1);
    expect(new Set(runs.map(({ info }) => info.run_name)).size).toBe(runs.length);
    expect(runs.every(({ info }) => info.status === 'FINISHED')).toBe(true);
    expect(await history(named(runs, 'generator[dataset=speeches,epsilon=8,seed=1]'), 'loss')).toHaveLength(5);
  });

  it('says what to do when there is no server', async () => {
    const run = await makeUpRun({ name: 'nowhere', seeds: [1], epsilons: [8] });
    await expect(
      publishRun(run.directory, run.plan, run.store, 'http://127.0.0.1:9', { attempts: 1 }),
    ).rejects.toMatchObject({
      code: 'SERVICE_UNREACHABLE',
      exitCode: 4,
    });
  });
});

/**
 * Stands before the real server. Every seventh call fails, in turn: cut before the server hears of it, cut after it has
 * done its work, answered 500 although it did its work.
 */
async function roughProxy(target: string): Promise<{ uri: string; failures(): Set<string>; close(): Promise<void> }> {
  let calls = 0;
  const kinds = ['before', 'after', 'answered 500'];
  const seen = new Set<string>();
  const server: Server = createServer((request, response) => {
    calls += 1;
    const failure = calls % 7 === 0 ? kinds[(calls / 7) % 3]! : null;
    if (failure !== null) seen.add(failure);
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      if (failure === 'before') return request.socket.destroy();
      void fetch(target + request.url!, {
        method: request.method!,
        headers: { 'content-type': request.headers['content-type'] ?? 'application/json' },
        ...(request.method === 'GET' ? {} : { body: Buffer.concat(parts) }),
      }).then(async (answer) => {
        const body = Buffer.from(await answer.arrayBuffer());
        if (failure === 'after') return request.socket.destroy();
        response
          .writeHead(failure === 'answered 500' ? 500 : answer.status, { 'content-type': 'application/json' })
          .end(body);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    failures: () => seen,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
