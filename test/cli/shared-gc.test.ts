import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { packageRoot } from '../../stack/paths.ts';
import { openStore } from '../../store/index.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { requires } from '../requires.ts';
import { makeUpRun, ownState, type MadeUpRun } from '../tracking/made-up-run.ts';

describe.runIf(requires('object-storage', 'gc of a store that hosts share'))('epsilonflow gc of a shared store', () => {
  let server: ObjectServer;
  let root: string;
  let environment: NodeJS.ProcessEnv;
  let restore: () => void;

  beforeAll(async () => (server = await startObjectServer()));
  afterAll(() => server?.remove());
  beforeEach(() => {
    environment = { ...process.env };
    restore = ownState();
    root = mkdtempSync(join(tmpdir(), 'shared gc '));
    Object.assign(process.env, server.environment, {
      EPSILONFLOW_RUN_SECRET: 'a secret that hosts of this test share',
      EPSILONFLOW_STORE_URL: `s3://results/test-${Math.random().toString(36).slice(2)}`,
    });
  });
  afterEach(() => {
    restore();
    process.env = environment;
    rmSync(root, { recursive: true, force: true });
  });

  async function gc(...parameters: string[]): Promise<{ checkpoints: { id: string; bytes: number }[] }> {
    const program = join(packageRoot, 'cli', 'epsilonflow.mjs');
    const child = spawn(process.execPath, [program, 'gc', '--json', ...parameters]);
    const output: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
    return JSON.parse(Buffer.concat(output).toString('utf8')) as { checkpoints: { id: string; bytes: number }[] };
  }

  /** What an attempt of a private step of the run left. */
  async function leaveCheckpoint({ plan }: MadeUpRun): Promise<string> {
    const id = `${plan.nodes[0]!.key.slice(0, 32)}-0123456789abcdef`;
    const directory = join(root, id);
    mkdirSync(join(directory, 'checkpoints'), { recursive: true });
    writeFileSync(join(directory, 'checkpoints', 'training.safetensors'), 'step 10');
    const folder = { id, directory, checkpointDirectory: join(directory, 'checkpoints') };
    await openStore().checkpoints!.save(folder, 'attempt', {}, () => Promise.resolve());
    return id;
  }

  it('removes checkpoints of runs that have ended, here or elsewhere, and keeps those of runs that go on', async () => {
    const { runs } = openStore();
    const claim = ({ plan, record }: MadeUpRun): Promise<boolean> =>
      runs.claim({ name: record.name, number: record.number, planDigest: plan.digest });
    const ended = await makeUpRun({ name: 'ended', seeds: [1] });
    const open = await makeUpRun({ name: 'open', seeds: [2], stopAfter: 2 });
    const elsewhere = await makeUpRun({ name: 'elsewhere', seeds: [3], stopAfter: 2 });
    for (const run of [ended, open, elsewhere]) await claim(run);
    const ids = [await leaveCheckpoint(ended), await leaveCheckpoint(open), await leaveCheckpoint(elsewhere)];
    const left = async (): Promise<string[]> => (await openStore().checkpoints!.list()).map(({ id }) => id).sort();

    const dry = await gc('--dry-run');
    expect(dry.checkpoints.map(({ id }) => id)).toEqual([ids[0]]);
    expect(dry.checkpoints[0]!.bytes).toBeGreaterThan(0);
    expect(await left()).toEqual([...ids].sort());
    await gc();
    expect(await left()).toEqual(ids.slice(1).sort());

    await runs.end(elsewhere.record);
    await gc();
    expect(await left()).toEqual([ids[1]]);
  }, 300_000);
});
