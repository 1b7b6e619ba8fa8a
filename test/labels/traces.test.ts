import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { stopWorker } from '../../stack/worker-process.ts';
import { readEvents, summariseRun, type RunSummary } from '../../tracking/events.ts';
import { epsilonflow, jobProcesses, type CommandResult, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import { searchFolder, tracesIn } from './find-traces.ts';
import { openPrivateWorld, secrets, specOf, writePrivateData } from './private-world.ts';

const rows = { train: 200, test: 60 };
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
  for (const deadline = Date.now() + 150_000; !look(); await sleep(30)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
  }
}

/** Payloads, which JSON would show in base64. */
function bytesIn(value: unknown): Buffer[] {
  if (value instanceof Uint8Array) return [Buffer.from(value)];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(bytesIn) : [];
}

/** Whether a private step's process trains: it has told of its planned steps. */
const trains = (name: string, node: string): boolean => (progressOf(name, node)?.done ?? 0) > 0;

describe('private records', () => {
  it('go through every step kind, and through steps that throw, are killed, are cancelled or find other data', async () => {
    const whole = world.write('whole.yaml', specOf({ name: 'whole', steps: 60, broken: true }));
    expect((await command('validate', whole)).code).toBe(0);
    expect((await command('plan', whole)).code).toBe(0);
    expect((await command('plan', whole, '--json')).code).toBe(0);
    const running = command('run', whole);
    await until('the generator trains', () => trains('whole', 'generator'));
    for (const pid of jobProcesses(world)) process.kill(pid, 'SIGKILL');
    expect((await running).code).toBe(1);
    const { nodes } = summary('whole');
    expect(Object.fromEntries([...nodes].map(([id, { status }]) => [id, status]))).toEqual({
      base: 'completed',
      generator: 'completed',
      broken: 'failed',
      synthetic: 'completed',
      'on-synthetic': 'completed',
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
  }, 540_000);

  it('are in no line that a command prints', () => {
    expect(said.size).toBeGreaterThan(12);
    for (const [name, output] of said) expect([name, tracesIn(Buffer.from(output), secrets)]).toEqual([name, []]);
  });

  it('are in no history of Temporal', async () => {
    const { address } = await ensureTemporal();
    const client = new Client({ connection: await Connection.connect({ address }) });
    let payloads = 0;
    for await (const { workflowId, runId } of client.workflow.list()) {
      const { history } = await client.workflowService.getWorkflowExecutionHistory({
        namespace: 'default',
        execution: { workflowId, runId },
        maximumPageSize: 10_000,
      });
      const data = bytesIn(history);
      payloads += data.length;
      for (const bytes of [Buffer.from(JSON.stringify(history)), ...data])
        expect([workflowId, tracesIn(bytes, secrets)]).toEqual([workflowId, []]);
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
