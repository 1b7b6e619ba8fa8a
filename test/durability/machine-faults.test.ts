/** @file A run on a machine that runs out of disk or memory, or whose disk takes no more writing. */

import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerUrl, statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { ensureWorker, findWorker, stopWorker } from '../../stack/worker-process.ts';
import { openStore } from '../../store/index.ts';
import { readEvents } from '../../tracking/events.ts';
import { readRun } from '../../tracking/runs.ts';
import {
  epsilonflow,
  generatorStep,
  jobProcesses,
  openTinyWorld,
  specHead,
  type TinyWorld,
} from '../orchestration/tiny-experiment.ts';
import { requires } from '../requires.ts';

const spec = (name: string): string => `${specHead(name, { size: 2000 })}
steps:
${generatorStep({ epsilon: 4, steps: 36, batch: 600 })}
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 40, maxTokens: 12, temperature: 1, seed: 1 }
`;

let world: TinyWorld;
let client: Client;
let address: string;
let disks = 0;
let disk: string;

beforeAll(async () => {
  world = await openTinyWorld({ train: 2000, withModel: true });
  ({ address } = await ensureTemporal());
  client = new Client({ connection: await Connection.connect({ address }) });
});

afterAll(async () => {
  await client?.connection.close();
  process.env['EPSILONFLOW_HOME'] = join(world.folder, 'home');
  delete process.env['TEMPORAL_ADDRESS'];
  await stopServices();
  world.remove();
});

/** Temporal and the ledger are on another disk than the store. */
beforeEach(() => {
  disk = join(world.folder, `disk-${(disks += 1)}`);
  mkdirSync(disk);
  mount('-t', 'tmpfs', '-o', 'size=64m,mode=700', 'tmpfs', disk);
  const own = {
    EPSILONFLOW_HOME: join(disk, 'home'),
    EPSILONFLOW_LEDGER_URL: `sqlite:${join(world.folder, `ledger-${disks}.db`)}`,
    TEMPORAL_ADDRESS: address,
  };
  Object.assign(process.env, own);
  Object.assign(world.environment, own);
});

afterEach(async () => {
  await stopWorker();
  execFileSync('umount', ['--lazy', disk]);
});

function mount(...parameters: string[]): void {
  execFileSync('mount', parameters);
}

async function until<T>(what: string, look: () => T | null | Promise<T | null>): Promise<T> {
  for (const deadline = Date.now() + 200_000; Date.now() < deadline; await sleep(50)) {
    const found = await look();
    if (found !== null) return found;
  }
  throw new Error(`Waited in vain until ${what}`);
}

const lastStep = (name: string): number =>
  readEvents(statePaths.run(name, 1)).events.reduce(
    (last, event) => (event.type === 'metric' ? Math.max(last, event.step) : last),
    0,
  );

const untilItTrains = (name: string): Promise<true> =>
  until('it trains', () => (lastStep(name) >= 2 && jobProcesses(world).length > 0 ? true : null));

/** Writes until nothing more fits; returns what makes room again. */
function fillDisk(): () => void {
  const ballast = join(disk, 'ballast');
  const file = openSync(ballast, 'w');
  for (let size = 1 << 20; size > 0; size >>= 1) {
    try {
      for (;;) writeSync(file, Buffer.alloc(size));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }
  closeSync(file);
  return () => rmSync(ballast);
}

/** What the last attempt of an activity of the run failed with. */
async function pendingFailure(name: string): Promise<string | null> {
  const { workflowId } = readRun(statePaths.run(name, 1));
  for (const id of [workflowId, `${workflowId}/generator`]) {
    const { raw } = await client.workflow.getHandle(id).describe();
    for (const { lastFailure } of raw.pendingActivities ?? []) {
      const type = lastFailure?.applicationFailureInfo?.type;
      if (type) return type;
    }
  }
  return null;
}

async function committed(): Promise<number> {
  const ledger = await openLedger(ledgerUrl());
  try {
    await ledger.verify();
    const account = await ledger.accountSummary('weather');
    return account!.experiments.reduce((sum, { entries }) => sum + entries.committed, 0);
  } finally {
    await ledger.close();
  }
}

async function nothingHalfWritten(): Promise<void> {
  const store = openStore();
  for (const { key } of await store.artifacts.list()) expect(await store.artifacts.damagesOf(key)).toEqual([]);
  expect(readdirSync(join(statePaths.sharedStore(), 'staging'))).toEqual([]);
}

describe.runIf(requires('root', 'runs on full and read-only disks'))('a disk', () => {
  it('that is full stops a run until there is room, and loses nothing', async () => {
    const run = epsilonflow(world, 'run', world.write('full.yaml', spec('full')), '--json');
    await untilItTrains('full');
    const makeRoom = fillDisk();
    expect(await until('an attempt fails', () => pendingFailure('full'))).toBe('DISK_FULL');
    makeRoom();
    const { code, stdout, stderr } = await run;
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ status: 'completed', counts: { completed: 2 } });
    expect(await committed()).toBe(1);
    await nothingHalfWritten();
  }, 400_000);

  it('that takes no writing fails the run with a remedy, and the next run goes on', async () => {
    const file = world.write('refused.yaml', spec('refused'));
    const run = epsilonflow(world, 'run', file, '--json');
    await untilItTrains('refused');
    // A mount of its own has no file open for writing, which would keep it from being refused.
    for (const folder of [statePaths.sharedStore(), statePaths.privateStore()]) {
      mount('--bind', folder, folder);
      mount('-o', 'remount,bind,ro', folder);
    }
    const failed = await run;
    for (const folder of [statePaths.sharedStore(), statePaths.privateStore()]) execFileSync('umount', [folder]);
    expect(failed.code, failed.stderr).toBe(1);
    expect(failed.stdout).toContain('STORE_READ_ONLY');
    expect(failed.stdout).toContain('Make the state folder writable for the user who runs the worker');
    const { code, stderr } = await epsilonflow(world, 'run', file, '--json');
    expect(code, stderr).toBe(0);
    expect(await committed()).toBe(1);
    // What the failed attempt could not remove, the next worker does.
    await stopWorker();
    await ensureWorker(await ensureTemporal());
    await nothingHalfWritten();
  }, 400_000);
});

describe.runIf(requires('memory-limits', 'a step that runs out of memory'))('memory', () => {
  const group = `/sys/fs/cgroup/memory/epsilonflow-test-${process.pid}`;
  afterAll(() => {
    execFileSync('rmdir', [group]);
  });

  /** Moves each process of a step to the group as soon as it is there. */
  async function limited<T>(run: Promise<T>): Promise<T> {
    const timer = setInterval(() => {
      for (const job of jobProcesses(world)) writeFileSync(join(group, 'cgroup.procs'), String(job));
    }, 20);
    return run.finally(() => clearInterval(timer));
  }

  it('that runs out ends the step alone, which says so, goes on, and is given up in the end', async () => {
    mkdirSync(group);
    writeFileSync(join(group, 'memory.limit_in_bytes'), String(64 << 20));
    const run = epsilonflow(world, 'run', world.write('memory.yaml', spec('memory')), '--json');
    const worker = await until('there is a worker', () => findWorker()?.process.pid ?? null);
    const { code, stdout } = await limited(run);
    expect(code).toBe(1);
    const { failures } = JSON.parse(stdout) as { failures: { node: string; code: string; message: string }[] };
    expect(failures).toMatchObject([{ node: 'generator', code: 'OUT_OF_MEMORY' }]);
    expect(failures[0]!.message).toContain('memory ran out');
    expect(findWorker()?.process.pid).toBe(worker);
    expect(jobProcesses(world)).toEqual([]);
    await nothingHalfWritten();
  }, 400_000);
});
