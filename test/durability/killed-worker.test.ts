import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isProcessAlive, killProcess, type ProcessIdentity } from '../../activities/process-identity.ts';
import type { Claim } from '../../activities/work-folder.ts';
import { offlineHost } from '../../cli/compile-host.ts';
import { compileSpec } from '../../compiler/index.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import type { OpenedArtifact } from '../../schemas/artifact.ts';
import type { Plan } from '../../schemas/plan.ts';
import { ledgerUrl, packageRoot, statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices, type TemporalService } from '../../stack/services.ts';
import { findWorker } from '../../stack/worker-process.ts';
import { openStore } from '../../store/index.ts';
import { readEvents, type RunEvent } from '../../tracking/events.ts';
import { writeRun } from '../../tracking/runs.ts';
import {
  generatorStep,
  jobProcesses,
  openTinyWorld,
  specHead,
  type TinyWorld,
} from '../orchestration/tiny-experiment.ts';

const steps = 36;

const spec = `${specHead('killed', { size: 2000, epsilon: 10 })}
steps:
${generatorStep({ epsilon: 8, steps, batch: 600 })}
`;

const run = { name: 'killed', number: 1, workflowId: 'killed/1-test' };
let world: TinyWorld;
let temporal: TemporalService;
let client: Client;
let plan: Plan;
const workers: ChildProcess[] = [];

beforeAll(async () => {
  world = await openTinyWorld({ train: 2000, withModel: true });
  process.env['EPSILONFLOW_RUN_SECRET'] = 'the same for both runs, so that their noise keys are the same';
  plan = await compileSpec({ file: world.write('spec.yaml', spec) }, offlineHost());
  temporal = await ensureTemporal();
  client = new Client({ connection: await Connection.connect({ address: temporal.address }) });
});

afterAll(async () => {
  for (const worker of workers) worker.kill('SIGKILL');
  await client?.connection.close();
  process.env['EPSILONFLOW_HOME'] = world.environment['EPSILONFLOW_HOME'];
  await stopServices();
  delete process.env['EPSILONFLOW_RUN_SECRET'];
  world.remove();
});

/** Own store, runs and ledger; the Temporal server is shared. */
function moveTo(name: string): void {
  process.env['TEMPORAL_ADDRESS'] = temporal.address;
  process.env['EPSILONFLOW_HOME'] = join(world.folder, name);
  process.env['EPSILONFLOW_LEDGER_URL'] = `sqlite:${join(world.folder, `${name}.db`)}`;
}

async function startWorker(failpoint?: string): Promise<ProcessIdentity> {
  const log = openSync(join(world.folder, 'worker.log'), 'a');
  const child = spawn(process.execPath, [join(packageRoot, 'cli', 'epsilonflow.mjs'), 'worker'], {
    env: { ...process.env, ...(failpoint ? { EPSILONFLOW_FAILPOINT: failpoint } : {}) },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  workers.push(child);
  return until(`a worker is ready; its log: ${join(world.folder, 'worker.log')}`, () => {
    const worker = findWorker()?.process;
    return worker && worker.pid === child.pid ? worker : null;
  });
}

async function startRun(): Promise<{ result: Promise<unknown> }> {
  await openStore().savePlan(plan);
  writeRun({ ...run, planDigest: plan.digest, specFile: plan.spec.file, startedAt: new Date().toISOString() }, '');
  const handle = await client.workflow.start('experimentWorkflow', {
    args: [{ ...run, planDigest: plan.digest }],
    workflowId: run.workflowId,
    taskQueue: 'control',
  });
  return { result: handle.result() };
}

async function until<T>(what: string, look: () => T | null | Promise<T | null>, seconds = 120): Promise<T> {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await sleep(20)) {
    const found = await look();
    if (found !== null) return found;
  }
  throw new Error(`Waited in vain until ${what}`);
}

const events = (): RunEvent[] => readEvents(statePaths.run(run.name, run.number)).events;
const lossSteps = (log: RunEvent[]): number[] => log.flatMap((event) => (event.type === 'metric' ? [event.step] : []));
const lastStep = (): number => Math.max(0, ...lossSteps(events()));

/** Steps that the newest checkpoint holds; 0 when there is none. */
function checkpointStep(): number {
  const root = join(statePaths.privateStore(), 'work');
  for (const name of existsSync(root) ? readdirSync(root) : []) {
    const file = join(root, name, 'checkpoints', 'training.safetensors');
    if (!existsSync(file)) continue;
    const bytes = readFileSync(file);
    const header = bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)));
    const { __metadata__: metadata } = JSON.parse(header) as { __metadata__?: Record<string, string> };
    return Number(metadata?.['step']);
  }
  return 0;
}

function currentClaim(): Claim {
  const root = join(statePaths.privateStore(), 'work');
  const [file] = readdirSync(root)
    .map((name) => join(root, name, 'claim.json'))
    .filter(existsSync);
  return JSON.parse(readFileSync(file!, 'utf8')) as Claim;
}

const digests = ({ manifest }: OpenedArtifact): Record<string, string> =>
  Object.fromEntries(Object.entries(manifest.files).map(([name, { sha256 }]) => [name, sha256]));

/** A whole number from `from` to `to`, other ones at each run of the tests. */
const anyOf = (from: number, to: number): number => from + Math.floor(Math.random() * (to - from + 1));

describe('a run whose worker is killed', () => {
  let reference: OpenedArtifact;

  it('is held against one that nobody interrupts', async () => {
    moveTo('undisturbed');
    const worker = await startWorker();
    await (
      await startRun()
    ).result;
    reference = (await openStore().lookup(plan.nodes[0]!.key))!;
    expect(lossSteps(events())).toEqual(Array.from({ length: steps }, (_, index) => index + 1));
    killProcess(worker, 'SIGTERM');
    await until('the worker has ended', () => (isProcessAlive(worker) ? null : true));
  }, 300_000);

  it('finishes with the same adapter, one charge and no process left', async () => {
    moveTo('killed');
    const node = plan.nodes[0]!;
    let worker = await startWorker();
    const { result } = await startRun();

    // Strictly between two checkpoints, three times.
    const kills: { eventsBefore: number; saved: number }[] = [];
    for (const target of [anyOf(2, 6), anyOf(12, 16), anyOf(22, 26)]) {
      await until(`step ${target}`, () => (lastStep() >= target ? true : null));
      const { job } = currentClaim();
      killProcess(worker, 'SIGKILL');
      await until('the step has ended with its worker', () => (isProcessAlive(job!) ? null : true), 5);
      const saved = checkpointStep();
      expect(lastStep()).toBeGreaterThan(saved);
      kills.push({ eventsBefore: events().length, saved });
      // The last of these workers dies once more, between publish and commit.
      worker = await startWorker(kills.length === 3 ? 'attempt: published' : undefined);
    }
    await until('the worker has died', () => (isProcessAlive(worker) ? null : true));
    const ledger = await openLedger(ledgerUrl());
    const { paidBy = [] } = (await openStore().lookup(node.key))!.manifest;
    expect(paidBy).toHaveLength(1);
    expect((await ledger.committedEntries(paidBy)).size).toBe(0);
    worker = await startWorker();
    await result;

    expect(digests((await openStore().lookup(node.key))!)).toEqual(digests(reference));
    const log = events();
    for (const { eventsBefore, saved } of kills) expect(lossSteps(log.slice(eventsBefore))[0]).toBe(saved + 1);
    const losses = new Map<number, Set<number>>();
    for (const event of log) {
      if (event.type !== 'metric') continue;
      losses.set(event.step, (losses.get(event.step) ?? new Set()).add(event.value));
    }
    expect(losses.size).toBe(steps);
    // A step that was repeated repeated exactly: same batch, same noise.
    expect([...losses.values()].every((values) => values.size === 1)).toBe(true);
    // One attempt before the first kill, one after each; what was published before the last kill was not run again.
    expect(log.filter(({ type }) => type === 'node-started')).toHaveLength(4);

    const account = await ledger.accountSummary('weather');
    expect(account?.experiments).toMatchObject([{ workflowId: run.workflowId }]);
    expect(account?.experiments[0]?.entries).toEqual({ reserved: 0, begun: 0, committed: 1, released: 0 });
    expect(account?.total).toBeCloseTo(node.privacy!.epsilon!, 6);
    await ledger.close();

    killProcess(worker, 'SIGTERM');
    await until('the worker has ended', () => (isProcessAlive(worker) ? null : true));
    expect(jobProcesses(world)).toEqual([]);
    expect(readdirSync(join(statePaths.privateStore(), 'work'))).toEqual([]);
    expect(readdirSync(join(statePaths.sharedStore(), 'staging'))).toEqual([]);
  }, 300_000);
});
