import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { watch } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { whileStarting } from '../../cli/start-run.ts';
import { packageRoot, statePaths } from '../../stack/paths.ts';
import { findGarbage, openStore, removeGarbage } from '../../store/index.ts';
import { mayLeave } from '../../tracking/door.ts';
import { writeRun } from '../../tracking/runs.ts';
import { makeUpRun, ownState, type MadeUpRun } from '../tracking/made-up-run.ts';

let restore: () => void;
beforeEach(() => (restore = ownState()));
afterEach(() => restore());

interface Answer {
  removed: boolean;
  runs: string[];
  results: { key: string; instance: string; bytes: number | null }[];
  plans: string[];
  bytes: number;
  keptPaid: { key: string }[];
}

function gc(...args: string[]): Answer {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(packageRoot, 'cli', 'epsilonflow.mjs'), 'gc', '--json', ...args],
    { encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return JSON.parse(stdout) as Answer;
}

const stored = async (): Promise<string[]> => (await openStore().artifacts.list()).map(({ key }) => key).sort();

const keysOf = ({ plan }: MadeUpRun): string[] => plan.nodes.map(({ key }) => key);

/** Resolves when another process has tried to take the lock that lies in a folder: each try makes a file for a moment. */
async function otherTriesLock(folder: string): Promise<void> {
  for await (const { filename } of watch(folder)) {
    const [, pid] = /^\.start\.lock\.(\d+)\./.exec(filename ?? '') ?? [];
    if (pid !== undefined && Number(pid) !== process.pid) return;
  }
}

describe('epsilonflow gc', () => {
  it('removes nothing that a run refers to', async () => {
    await makeUpRun();
    const before = await stored();
    expect(before.length).toBeGreaterThan(3);
    expect(gc()).toMatchObject({ removed: true, runs: [], results: [], plans: [] });
    expect(await stored()).toEqual(before);
  });

  it('removes the results of runs that are gone, but for those that spent privacy', async () => {
    const kept = await makeUpRun({ name: 'kept' });
    const gone = await makeUpRun({ name: 'gone', seeds: [7, 8] });
    const before = await stored();
    rmSync(gone.directory, { recursive: true });

    const dry = gc('--dry-run');
    expect(dry.removed).toBe(false);
    expect(await stored()).toEqual(before);
    const orphans = keysOf(gone).filter((key) => before.includes(key) && !keysOf(kept).includes(key));
    expect([...dry.results, ...dry.keptPaid].map(({ key }) => key).sort()).toEqual(orphans.sort());
    expect(dry.keptPaid.length).toBeGreaterThan(0);
    expect(dry.results.length).toBeGreaterThan(0);
    expect(dry.bytes).toBeGreaterThan(0);

    expect(gc()).toEqual({ ...dry, removed: true });
    const paid = dry.keptPaid.map(({ key }) => key);
    expect(await stored()).toEqual(before.filter((key) => !orphans.includes(key) || paid.includes(key)));
    expect(gc('--paid').results.map(({ key }) => key)).toEqual(paid);
    expect(await stored()).toEqual(before.filter((key) => !orphans.includes(key)));
    for (const root of [statePaths.sharedStore(), statePaths.privateStore()]) {
      expect(readdirSync(join(root, 'staging'))).toEqual([]);
    }
    expect(readdirSync(statePaths.plans())).toEqual([`${kept.plan.digest}.json`]);
  });

  it('tells no size of results that must stay inside, nor one that follows from a sum', async () => {
    const gone = await makeUpRun({ sensitivity: 'private' });
    rmSync(gone.directory, { recursive: true });
    const shut = new Set(gone.plan.nodes.filter((node) => !mayLeave(node)).map(({ id }) => id));
    const { results, bytes } = gc('--dry-run', '--paid');
    const untold = results.filter((result) => result.bytes === null);
    expect(untold.length).toBeGreaterThan(0);
    expect(new Set(untold.map(({ instance }) => instance))).toEqual(
      new Set(results.map(({ instance }) => instance).filter((instance) => shut.has(instance))),
    );
    const plan = statSync(join(statePaths.plans(), `${gone.plan.digest}.json`)).size;
    expect(bytes).toBe(results.reduce((sum, result) => sum + (result.bytes ?? 0), plan));
    const text = spawnSync(process.execPath, [join(packageRoot, 'cli', 'epsilonflow.mjs'), 'gc', '--paid'], {
      encoding: 'utf8',
    }).stdout;
    expect(text).toContain(`${untold[0]!.instance}, whose size is not told`);
    expect(text).toContain(` and ${untold.length} results whose size is not told.`);
  });

  it('waits for a run that starts, and keeps what that names', async () => {
    const { plan } = await makeUpRun();
    rmSync(statePaths.runs(), { recursive: true });
    const gone = spawn(process.execPath, [join(packageRoot, 'cli', 'epsilonflow.mjs'), 'gc', '--json']);
    await whileStarting(plan, async () => {
      await otherTriesLock(statePaths.runs());
      expect(gone.exitCode).toBeNull();
      const { name, digest: planDigest } = plan;
      const record = { name, number: 2, workflowId: 'w', planDigest, specFile: 'f', startedAt: '' };
      writeRun(record, '');
    });
    await new Promise((resolve) => gone.on('close', resolve));
    expect(readdirSync(statePaths.plans())).toEqual([`${plan.digest}.json`]);
    expect(await stored()).not.toEqual([]);
  });

  it('keeps the newest runs of each experiment, and what has not ended', async () => {
    await makeUpRun({ name: 'a', number: 1, seeds: [1] });
    await makeUpRun({ name: 'a', number: 2, seeds: [2], stopAfter: 3 });
    await makeUpRun({ name: 'a', number: 3, seeds: [3] });
    await makeUpRun({ name: 'b', seeds: [4] });
    const logs = join(statePaths.privateStore(), 'logs', 'a');
    for (const number of ['1', '2', '3']) mkdirSync(join(logs, number), { recursive: true });
    expect(gc('--keep-last', '1').runs).toEqual(['a/1']);
    expect(readdirSync(logs).sort()).toEqual(['2', '3']);
    expect(readdirSync(join(statePaths.runs(), 'a')).sort()).toEqual(['2', '3']);
    expect(readdirSync(join(statePaths.runs(), 'b'))).toEqual(['1']);
  });

  it('puts back what a run wants that was started meanwhile', async () => {
    const run = await makeUpRun();
    const before = await stored();
    const store = openStore();
    const garbage = await findGarbage(store, { keys: new Set(), plans: new Set() }, { paid: true });
    expect(garbage.results).toHaveLength(before.length);
    await removeGarbage(store, garbage, () =>
      Promise.resolve({ keys: new Set(keysOf(run)), plans: new Set([run.plan.digest]) }),
    );
    expect(await stored()).toEqual(before);
    expect(readdirSync(statePaths.plans())).toEqual([`${run.plan.digest}.json`]);
  });
});
