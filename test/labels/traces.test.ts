import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { CompiledQuery } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { openDatabase } from '../../privacy/ledger/database.ts';
import { ledgerUrl, statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { stopWorker } from '../../stack/worker-process.ts';
import type { Progress } from '../../tracking/door.ts';
import { readRun } from '../../tracking/runs.ts';
import { readEvents } from '../../tracking/events.ts';
import { summariseRun, type RunSummary } from '../../tracking/run-summary.ts';
import { epsilonflow, jobProcesses, type CommandResult, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import { searchFolder, tracesIn } from './find-traces.ts';
import { openPrivateWorld, secrets, specOf, writePrivateData } from './private-world.ts';

const rows = { train: 200, test: 60 };
/** What a database says when it fails, as if it quoted a record. */
const spoilt = 'qqzstatementxjv';
let world: TinyWorld;
/** Everything that a command printed, by command. */
const said = new Map<string, string>();

beforeAll(async () => {
  world = await openPrivateWorld(rows);
});
afterAll(async () => {
  await stopWorker();
  await stopServices();
  world.remove();
});

async function command(...args: string[]): Promise<CommandResult> {
  const result = await epsilonflow(world, ...args);
  said.set(args.join(' '), (said.get(args.join(' ')) ?? '') + result.stdout + result.stderr);
  return result;
}

const summary = (name: string): RunSummary => summariseRun(readEvents(statePaths.run(name, 1)).events);
const statusOf = (name: string, node: string): string | undefined => summary(name).nodes.get(node)?.status;
const progressOf = (name: string, node: string): { done: number } | null => {
  try {
    const file = join(statePaths.run(name, 1), 'progress', `${node}.json`);
    return JSON.parse(readFileSync(file, 'utf8')) as { done: number };
  } catch {
    return null;
  }
};

async function until(what: string, look: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 300_000; !look(); await sleep(30)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
  }
}

/** What progress files and heartbeats of a run's instances say while they run, by slug. */
class ProgressWatch {
  readonly seen = new Map<string, Progress[]>();
  private readonly ended: Promise<void>;
  private isDone = false;

  constructor(client: Client, run: string) {
    this.ended = Promise.all([this.watchFiles(run), this.watchHeartbeats(client)]).then(() => undefined);
  }

  async end(): Promise<void> {
    this.isDone = true;
    await this.ended;
  }

  private add(slug: string, told: string): void {
    const progress = JSON.parse(told) as Progress | null;
    // A sign of life before there was any progress.
    if (progress === null) return;
    const before = this.seen.get(slug);
    if (before) before.push(progress);
    else this.seen.set(slug, [progress]);
  }

  /** Often: a step of a few small texts is there for a moment. */
  private async watchFiles(run: string): Promise<void> {
    const folder = join(statePaths.run(run, 1), 'progress');
    for (; !this.isDone; await sleep(10)) {
      for (const name of existsSync(folder) ? readdirSync(folder) : []) {
        if (!name.endsWith('.json')) continue;
        try {
          this.add(name.slice(0, -5), readFileSync(join(folder, name), 'utf8'));
        } catch {
          // Its step has ended meanwhile.
        }
      }
    }
  }

  private async watchHeartbeats(client: Client): Promise<void> {
    for (; !this.isDone; await sleep(500)) {
      for await (const { workflowId } of client.workflow.list({ query: 'ExecutionStatus = "Running"' })) {
        for (const { activityId, heartbeatDetails } of await pendingActivities(client, workflowId)) {
          for (const { data } of heartbeatDetails?.payloads ?? []) {
            if (data && activityId) this.add(activityId, Buffer.from(data).toString());
          }
        }
      }
    }
  }
}

async function pendingActivities(client: Client, workflowId: string) {
  const description = await client.workflow.getHandle(workflowId).describe();
  return description.raw.pendingActivities ?? [];
}

async function openClient(): Promise<Client> {
  const { address } = await ensureTemporal();
  return new Client({ connection: await Connection.connect({ address }) });
}

/** Payloads, which JSON would show in base64. */
function bytesIn(value: unknown): Buffer[] {
  if (value instanceof Uint8Array) return [Buffer.from(value)];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}

/** Whether a private step's process trains: it has told of its planned steps. */
const trains = (name: string, node: string): boolean => (progressOf(name, node)?.done ?? 0) > 0;

/** Steps on private records tell of phases and planned steps: of no record, no microbatch, no number of either. */
function checkProgress(seen: ProgressWatch['seen']): void {
  for (const slug of ['generator', 'on-synthetic', 'on-real']) {
    const planned = slug === 'generator' ? 60 : 6;
    const shown = seen.get(slug) ?? [];
    expect(shown.length).toBeGreaterThan(0);
    for (const { phase, done, total, unit } of shown) {
      const isPlanned = unit === 'steps' && total === planned && Number.isInteger(done);
      expect([slug, phase, unit, isPlanned || (done === 0 && total === 0)]).toEqual([slug, phase, unit, true]);
    }
  }
  expect(seen.get('generator')!.some(({ done }) => done > 0)).toBe(true);
}

describe('private records', () => {
  it('go through every step kind, and through steps that throw, are killed, are cancelled or find other data', async () => {
    const whole = world.write('whole.yaml', specOf({ name: 'whole', steps: 60, broken: true, measured: true }));
    expect((await command('validate', whole)).code).toBe(0);
    expect((await command('plan', whole)).code).toBe(0);
    expect((await command('plan', whole, '--json')).code).toBe(0);
    const client = await openClient();
    const watch = new ProgressWatch(client, 'whole');
    const running = command('run', whole);
    await until('the generator trains', () => trains('whole', 'generator'));
    for (const pid of jobProcesses(world)) process.kill(pid, 'SIGKILL');
    expect((await running).code).toBe(1);
    await watch.end();
    await client.connection.close();
    checkProgress(watch.seen);
    const { nodes } = summary('whole');
    expect(Object.fromEntries([...nodes].map(([id, { status }]) => [id, status]))).toEqual({
      base: 'completed',
      generator: 'completed',
      broken: 'failed',
      synthetic: 'completed',
      'on-synthetic': 'completed',
      nearness: 'completed',
      'on-real': 'completed',
      comparison: 'completed',
    });
    expect([...nodes.values()].some(({ attempt }) => attempt > 1)).toBe(true);

    const cancelled = world.write('cancelled.yaml', specOf({ name: 'cancelled', steps: 5000, seed: 2 }));
    expect((await command('run', cancelled, '--detach')).code).toBe(0);
    await until('the long generator trains', () => trains('cancelled', 'generator'));
    expect((await command('cancel', 'cancelled/1')).code).toBe(0);
    expect(statusOf('cancelled', 'generator')).toBe('cancelled');

    const changed = world.write('changed.yaml', specOf({ name: 'changed', steps: 60, seed: 3, synthetic: false }));
    expect((await command('run', changed, '--detach')).code).toBe(0);
    await until('the generator of the changed run trains', () => trains('changed', 'generator'));
    writePrivateData(world, rows, [`"a new row with ${secrets[0]}new",warm`]);
    await until('that run has ended', () => summary('changed').status !== 'running');
    expect(summary('changed').nodes.get('on-real')?.failure?.code).toBe('DATA_CHANGED');

    for (const run of ['whole', 'cancelled/1', 'changed']) await command('status', run);
    await command('status', '--json');
    await command('report', 'whole', '--json');
    expect((await command('release', 'whole', 'synthetic', '--to', join(world.folder, 'released'))).code).toBe(0);
    await command('release', 'whole', 'on-real', '--to', join(world.folder, 'refused'));
    await command('ledger', 'show', 'people');
    await command('ledger', 'show', 'people/test', '--json');
    await command('ledger', 'verify');
    const { database, close } = await openDatabase(ledgerUrl());
    const drawn = await database.selectFrom('entry_steps').select('batch_size').where('batch_size', '>', 0).execute();
    await close();
    expect(drawn.length).toBeGreaterThan(60);
  }, 900_000);

  it('are in no failure that Temporal shows while a statement of the ledger fails', async () => {
    const { database, close } = await openDatabase(ledgerUrl());
    const client = await openClient();
    const run = (sql: string) => database.executeQuery(CompiledQuery.raw(sql));
    /** Waits for a second attempt; what Temporal says of the first. */
    const failureIn = async (workflowId: string): Promise<string> => {
      for (const deadline = Date.now() + 100_000; Date.now() < deadline; await sleep(100)) {
        const pending = await pendingActivities(client, workflowId).catch(() => []);
        const failed = pending.find(({ lastFailure }) => lastFailure);
        if (failed) return JSON.stringify(failed.lastFailure) + bytesIn(failed.lastFailure).join();
      }
      throw new Error(`No activity of ${workflowId} failed`);
    };
    const spoil = (event: string) =>
      run(`create trigger spoilt before ${event} on entries begin select raise(abort, '${spoilt}'); end`);
    await spoil('insert');
    const spec = world.write('spoilt.yaml', specOf({ name: 'spoilt', seed: 4, synthetic: false }));
    expect((await command('run', spec, '--detach')).code).toBe(0);
    const { workflowId } = readRun(statePaths.run('spoilt', 1));
    const shown = [await failureIn(workflowId)];
    await run('drop trigger spoilt');
    await spoil('update');
    shown.push(await failureIn(`${workflowId}/generator`));
    await run('drop trigger spoilt');
    expect((await command('cancel', 'spoilt/1')).code).toBe(0);
    await client.connection.close();
    await close();
    for (const failure of shown) {
      expect(failure).toMatch(/It failed with [A-Za-z]*Error\. Its message stays in the local log/);
      expect(tracesIn(Buffer.from(failure), [spoilt])).toEqual([]);
    }
    // The whole is where only operators look.
    const inPrivate = searchFolder(statePaths.privateStore(), [spoilt]).traces;
    expect(inPrivate.length).toBeGreaterThanOrEqual(2);
    expect(searchFolder(join(world.folder, 'home'), [spoilt], [statePaths.privateStore()]).traces).toEqual([]);
  }, 300_000);

  it('are in no line that a command prints', () => {
    expect(said.size).toBeGreaterThan(12);
    for (const [name, output] of said) expect([name, tracesIn(Buffer.from(output), secrets)]).toEqual([name, []]);
  });

  it('are in no history of Temporal', async () => {
    const client = await openClient();
    let payloads = 0;
    for await (const { workflowId, runId } of client.workflow.list()) {
      const { history } = await client.workflowService.getWorkflowExecutionHistory({
        namespace: 'default',
        execution: { workflowId, runId },
        maximumPageSize: 10_000,
      });
      const data = bytesIn(history);
      payloads += data.length;
      // How many records a step drew goes from its process to the ledger, and no other way.
      expect(data.filter((bytes) => bytes.includes('"batchSize'))).toEqual([]);
      for (const bytes of [Buffer.from(JSON.stringify(history)), ...data])
        expect([workflowId, tracesIn(bytes, [...secrets, spoilt])]).toEqual([workflowId, []]);
    }
    expect(payloads).toBeGreaterThan(100);
    await client.connection.close();
  });

  it('are in no file outside the private store: databases, artifacts, logs, run state, ledger, shared store', async () => {
    await stopWorker();
    await stopServices();
    const data = ['people.csv', 'people-test.jsonl'].map((name) => join(world.folder, name));
    const { files, bytes, traces } = searchFolder(world.folder, secrets, [...data, statePaths.privateStore()]);
    expect(traces).toEqual([]);
    expect(files).toBeGreaterThan(60);
    expect(bytes).toBeGreaterThan(1e6);
    const names = searchFolder(world.folder, ['never'], []);
    expect(names.files).toBeGreaterThan(files);
    // The search does find what it looks for where it may be.
    expect(searchFolder(world.folder, secrets, []).traces.some((trace) => trace.startsWith('people'))).toBe(true);
  });
});
