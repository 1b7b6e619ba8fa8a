import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { withCompileHost } from '../../cli/compile-host.ts';
import { withRun } from '../../cli/open-run.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { compile } from '../../compiler/index.ts';
import type { Ledger } from '../../privacy/ledger/index.ts';
import { markerFile, markerName, markerText, readMarker } from '../../privacy/ledger/marker.ts';
import type { Plan } from '../../schemas/plan.ts';
import { statePaths } from '../../stack/paths.ts';
import { acknowledgeLedger, openProjectLedger, openUnchecked } from '../../stack/project-ledger.ts';
import { openStore } from '../../store/index.ts';
import { accountStatement } from '../../tracking/release/card.ts';
import { ledgerHeadFile } from '../../tracking/runs.ts';
import { describeLoss } from '../../tracking/wording.ts';
import { openWorkspace, type Workspace } from '../compiler/workspace.ts';
import { entry, envelope, mechanism, stateDigest } from './ledger-fixture.ts';

const why = { author: 'board', reason: 'the disk is lost' };

let world: Workspace;
let spec: string;
let marker: string;
let ledgerFolder: string;

beforeEach(() => {
  // Tests may have their temporary files inside the clone; here no git work tree may be around.
  vi.stubEnv('TMPDIR', '/tmp');
  world = openWorkspace({ inGit: false });
  ledgerFolder = join(world.folder, 'ledger');
  process.env['EPSILONFLOW_HOME'] = join(world.folder, 'state');
  process.env['EPSILONFLOW_LEDGER_URL'] = `sqlite:${join(ledgerFolder, 'ledger.db')}`;
  spec = world.write('project/private.yaml', specOf('private'));
  marker = join(world.folder, 'project', markerName);
});

afterEach(() => {
  world.remove();
  vi.unstubAllEnvs();
});

const specOf = (sensitivity: 'private' | 'benchmark', name = 'reviews', train = 'train.jsonl'): string => `version: 1
name: trial
datasets:
  ${name}:
    files: { train: ../${train} }
    label: { values: [neg, pos] }
    sensitivity: ${sensitivity}
    privacy: { size: 20000, budget: { epsilon: 10 } }
models:
  base: { path: ../model }
steps:
  generator:
    uses: finetune
    with: { model: base, data: ${name}, epsilon: 2, seed: 1 }
`;

/** As \`epsilonflow run\` does before it starts anything; returns what it says. */
async function start(file = spec): Promise<{ plan: Plan; said: string[] }> {
  const { compiled, registrations } = await withCompileHost(async (host) => ({
    compiled: await compile({ file }, host),
    registrations: host.registrations,
  }));
  const said: string[] = [];
  await registerPlan(compiled.plan, registrations, (line) => said.push(line));
  return { plan: compiled.plan, said };
}

async function reserve({ datasets }: Plan, workflow: string): Promise<void> {
  const { name: dataset, digest } = Object.values(datasets)[0]!;
  const ledger = await openProjectLedger(null);
  await ledger.reserve(envelope(workflow, [entry(workflow, { dataset })], 10, { dataset, digest }));
  await ledger.close();
}

const reserveOn = (ledger: Ledger, dataset: string, workflow = 'w'): Promise<unknown> =>
  ledger.reserve(envelope(workflow, [entry(workflow, { dataset })], null, { dataset, benchmark: true }));

async function acknowledge(): Promise<string[]> {
  const ledger = await openUnchecked();
  const found = await acknowledgeLedger(ledger, marker, why);
  await ledger.close();
  return found.map(({ problem }) => problem);
}

/** A copy of the ledger as it is now, with its secret. */
function backup(): string {
  const copy = mkdtempSync(join(tmpdir(), 'ledger-backup-'));
  cpSync(ledgerFolder, copy, { recursive: true });
  return copy;
}

function restore(copy: string): void {
  rmSync(ledgerFolder, { recursive: true });
  cpSync(copy, ledgerFolder, { recursive: true });
}

describe('marker', () => {
  test('is made beside the first spec that spends on private data, once, and asks to be committed', async () => {
    const { said } = await start();
    expect(said).toEqual([expect.stringMatching(/epsilonflow-ledger\.json names .*: commit it\.$/) as unknown]);
    const text = readFileSync(marker, 'utf8');
    const { plan, said: again } = await start();
    await reserve(plan, 'w');
    expect(again).toEqual([]);
    expect(readFileSync(marker, 'utf8')).toBe(text);
  });

  test('names the ledger and tells nothing else', async () => {
    await start();
    const ledger = await openUnchecked();
    const { about: _, ...named } = JSON.parse(readFileSync(marker, 'utf8')) as Record<string, unknown>;
    expect(named).toEqual({ ledger: await ledger.identity(), kind: 'sqlite', ...(await ledger.head()) });
    await ledger.close();
  });

  test('is not made for public data, which no lost ledger keeps from being used', async () => {
    const open = world.write('project/benchmark.yaml', specOf('benchmark', 'films', 'test.jsonl'));
    expect((await start(open)).said).toEqual([]);
    expect(existsSync(marker)).toBe(false);
    await start();
    rmSync(ledgerFolder, { recursive: true });
    await start(open);
  });

  test('lies at the top of the work tree, so that one holds for all specs', () => {
    const top = join(world.folder, 'clone');
    mkdirSync(join(top, '.git'), { recursive: true });
    mkdirSync(join(top, 'experiments', 'deep'), { recursive: true });
    expect(markerFile(join(top, 'experiments', 'deep', 'spec.yaml'))).toBe(join(top, markerName));
    expect(markerFile(join(world.folder, 'project', 'deep', 'spec.yaml'))).toBe(
      join(world.folder, 'project', 'deep', markerName),
    );
    writeFileSync(marker, '');
    expect(markerFile(join(world.folder, 'project', 'deep', 'spec.yaml'))).toBe(marker);
  });

  test.each(['', '{}', '{"ledger": 3}', 'x'])('that says %j is refused', (text) => {
    writeFileSync(marker, text);
    expect(() => readMarker(marker)).toThrow(expect.objectContaining({ code: 'LEDGER_MISMATCH' }) as Error);
  });
});

test('deleting the run state resets no budget', async () => {
  await reserve((await start()).plan, 'w');
  rmSync(dirname(statePaths.ledgerHeads()), { recursive: true });
  const { plan, said } = await start();
  expect(plan.privacy['reviews']!.before).toBeGreaterThan(0);
  expect(said).toEqual([]);
});

describe('a deleted ledger', () => {
  test.each([
    ['and state', true],
    ['alone', false],
  ])('%s is refused before another is made in its place', async (_, withState) => {
    const { plan } = await start();
    await reserve(plan, 'w');
    rmSync(ledgerFolder, { recursive: true });
    if (withState) rmSync(dirname(statePaths.ledgerHeads()), { recursive: true });
    await expect(start()).rejects.toMatchObject({
      code: 'LEDGER_MISMATCH',
      exitCode: 3,
      message: expect.stringContaining('There is no privacy ledger at') as string,
      hint: expect.stringContaining(`epsilonflow ledger acknowledge --marker "${marker}"`) as string,
    });
    expect(existsSync(ledgerFolder)).toBe(false);
  });

  test('is refused as well when an empty or another one lies there', async () => {
    await start();
    rmSync(ledgerFolder, { recursive: true });
    await (await openUnchecked()).close();
    await expect(start()).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
    process.env['EPSILONFLOW_LEDGER_URL'] = `sqlite:${join(world.folder, 'elsewhere', 'ledger.db')}`;
    await (await openUnchecked()).close();
    await expect(start()).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
  });

  test('is gone on without when someone says so, in the chain and in the marker', async () => {
    await start();
    const before = readMarker(marker)!;
    rmSync(ledgerFolder, { recursive: true });
    expect(await acknowledge()).toEqual(['exchanged']);
    expect(await acknowledge()).toEqual([]);
    await start();
    const ledger = await openUnchecked();
    expect(readMarker(marker)).toMatchObject({ ledger: await ledger.identity() });
    await ledger.close();
    // A colleague's clone still has the old marker.
    writeFileSync(marker, markerText(before));
    await start();
  });
});

describe('an older copy', () => {
  test('is refused wherever the ledger is opened, until someone acknowledges it', async () => {
    const { plan } = await start();
    await reserve(plan, 'first');
    const copy = backup();
    await reserve(plan, 'second');
    restore(copy);
    const refused = {
      code: 'LEDGER_ROLLED_BACK',
      exitCode: 3,
      message: expect.stringMatching(/lacks row \d+/) as string,
    };
    await expect(start()).rejects.toMatchObject(refused);
    await expect(openProjectLedger(null)).rejects.toMatchObject(refused);
    expect(await acknowledge()).toEqual(['rolled-back']);
    await start();
    await reserve(plan, 'third');
    const ledger = await openProjectLedger(marker);
    await ledger.verify();
    await ledger.close();
    rmSync(copy, { recursive: true });
  });

  test('from before a repeated step was charged is refused', async () => {
    const { plan } = await start();
    const short = { ...mechanism, steps: 2 };
    const { name: dataset, digest } = Object.values(plan.datasets)[0]!;
    const reviews = envelope('w', [entry('a', { dataset, mechanism: short })], 10, { dataset, digest });
    const ledger = await openProjectLedger(marker);
    const [receipt] = await ledger.reserve(reviews);
    const token = await ledger.begin(receipt!, 1, null);
    const began = backup();
    for (const step of [0, 1]) await ledger.recordStep(receipt!, token, step, stateDigest);
    const recorded = backup();
    await ledger.recordStep(receipt!, token, 1, 'e'.repeat(64));
    await ledger.close();
    for (const copy of [recorded, began]) {
      restore(copy);
      await expect(openProjectLedger(marker)).rejects.toMatchObject({ code: 'LEDGER_ROLLED_BACK' });
      rmSync(copy, { recursive: true });
    }
  });

  test('is told by its rows also when it has grown since', async () => {
    const { plan } = await start();
    const copy = backup();
    await reserve(plan, 'first');
    const heads = readFileSync(statePaths.ledgerHeads());
    restore(copy);
    rmSync(statePaths.ledgerHeads());
    for (const other of ['second', 'third', 'fourth']) await reserve(plan, other);
    writeFileSync(statePaths.ledgerHeads(), heads);
    await expect(openProjectLedger(null)).rejects.toMatchObject({ code: 'LEDGER_ROLLED_BACK' });
    rmSync(copy, { recursive: true });
  });

  test('from before the marker is refused also where the run state is gone', async () => {
    await (await openUnchecked()).close();
    const copy = backup();
    await start();
    restore(copy);
    rmSync(dirname(statePaths.ledgerHeads()), { recursive: true });
    await expect(start()).rejects.toMatchObject({ code: 'LEDGER_ROLLED_BACK' });
    rmSync(copy, { recursive: true });
  });

  test('without its secret is refused until acknowledged, since no records would be known again', async () => {
    await start();
    rmSync(join(ledgerFolder, 'dataset-secret'));
    const lost = { code: 'LEDGER_MISMATCH', message: expect.stringContaining('dataset secret') as string };
    await expect(start()).rejects.toMatchObject(lost);
    expect(await acknowledge()).toEqual(['secret-lost']);
    await start();
    rmSync(join(ledgerFolder, 'dataset-secret'));
    await expect(start()).rejects.toMatchObject(lost);
  });
});

describe('what the state folder remembers', () => {
  const remembered = (): Record<string, { sequence: number }> =>
    JSON.parse(readFileSync(statePaths.ledgerHeads(), 'utf8')) as Record<string, { sequence: number }>;

  test('never goes back while several write, and loses no other ledger', async () => {
    await start();
    const [first, second] = [await openUnchecked(), await openUnchecked()];
    process.env['EPSILONFLOW_LEDGER_URL'] = `sqlite:${join(world.folder, 'elsewhere', 'ledger.db')}`;
    const other = await openUnchecked();
    await reserveOn(first, 'reviews');
    const changes = Array.from({ length: 12 }, (_, i) => [
      (i % 2 === 0 ? first : second).setBudget('reviews', 20 + i, why),
      reserveOn(other, 'films', `w${i}`),
    ]);
    await Promise.all(changes.flat());
    for (const ledger of [first, other]) {
      expect(remembered()[await ledger.identity()]).toMatchObject(await ledger.head());
    }
    await Promise.all([first, second, other].map((ledger) => ledger.close()));
  });
});

describe('a ledger that was lost where no marker names it', () => {
  const lost = {
    code: 'LEDGER_MISMATCH',
    message: expect.stringContaining('kept before') as string,
    hint: expect.stringContaining('epsilonflow ledger acknowledge') as string,
  };
  const elsewhere = (): string => world.write('elsewhere/other.yaml', specOf('private'));

  test('is missed for specs of other folders, by worker and commands too, and not made anew', async () => {
    await reserve((await start()).plan, 'w');
    rmSync(ledgerFolder, { recursive: true });
    await expect(start(elsewhere())).rejects.toMatchObject(lost);
    await expect(openProjectLedger(null, { remembered: true })).rejects.toMatchObject(lost);
    await expect(openProjectLedger(join(world.folder, markerName))).rejects.toMatchObject(lost);
    expect(existsSync(ledgerFolder)).toBe(false);
  });

  test('is not taken for another one in its place, until someone acknowledges that', async () => {
    await reserve((await start()).plan, 'w');
    rmSync(ledgerFolder, { recursive: true });
    await (await openUnchecked()).close();
    const gone = { ...lost, message: expect.stringContaining('in its place before') as string };
    await expect(start(elsewhere())).rejects.toMatchObject(gone);
    expect(await acknowledge()).toEqual(['exchanged']);
    await start(elsewhere());
    await reserve((await start()).plan, 'new');
    const ledger = await openUnchecked();
    const summary = (await ledger.accountSummary('reviews'))!;
    expect(summary.losses).toEqual([{ problem: 'exchanged', row: expect.any(Number) as number, ...why }]);
    expect(describeLoss(summary.losses[0]!)).toContain('acknowledged by board, because: the disk is lost.');
    expect(accountStatement(summary).losses).toEqual(summary.losses);
    const rows = await ledger.rowsBehind('new', []);
    expect(rows.filter(({ kind }) => kind === 'acknowledged').map(({ sequence }) => sequence)).toEqual([
      summary.losses[0]!.row,
    ]);
    await ledger.close();
  });

  test('is not made anew by commands that read a run which had used it', async () => {
    const { plan } = await start();
    const record = { name: 'trial', number: 1, workflowId: 'trial/1', planDigest: plan.digest, specFile: elsewhere() };
    const directory = statePaths.run('trial', 1);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'run.json'), JSON.stringify({ ...record, startedAt: new Date(0).toISOString() }));
    const head = { ledger: 'the one of then', sequence: 3, hash: '0'.repeat(64) };
    writeFileSync(ledgerHeadFile(directory), JSON.stringify(head));
    await openStore().savePlan(plan);
    process.env['EPSILONFLOW_LEDGER_URL'] = `sqlite:${join(world.folder, 'mistyped', 'ledger.db')}`;
    await expect(withRun('trial/1', () => Promise.resolve())).rejects.toMatchObject(lost);
    expect(existsSync(join(world.folder, 'mistyped'))).toBe(false);
  });

  test('has nothing to do with one that is kept elsewhere', async () => {
    await reserve((await start()).plan, 'w');
    process.env['EPSILONFLOW_LEDGER_URL'] = `sqlite:${join(world.folder, 'elsewhere', 'ledger.db')}`;
    await start(elsewhere());
  });
});

describe('data of a spec', () => {
  test('in another format, order or version are those of the account', async () => {
    const { plan } = await start();
    await reserve(plan, 'first');
    world.write('train.csv', 'label,text\nneg,three\nneg,one\npos,four\npos,two\npos,a new one\n');
    const other = world.write('project/other.yaml', specOf('private', 'reviews', 'train.csv'));
    const { plan: second } = await start(other);
    expect(Object.values(second.datasets)[0]!.digest).not.toBe(Object.values(plan.datasets)[0]!.digest);
    expect(second.privacy['reviews']!.before).toBeGreaterThan(0);
  });

  test('under another name are refused when they hold records of another account', async () => {
    await start();
    const rows = ['one', 'two', 'three', 'four', 'new'].map(
      (text, i) => `${JSON.stringify({ text, label: ['neg', 'pos'][i % 2] })}\n`,
    );
    world.write('more.jsonl', rows.join(''));
    const other = world.write('project/other.yaml', specOf('private', 'opinions', 'more.jsonl'));
    await expect(start(other)).rejects.toMatchObject({ code: 'DATASET_OVERLAP' });
  });
});

test('a clone stays clean for git when it runs on public data', () => {
  const listed = spawnSync('git', ['check-ignore', 'privacy-ledger/ledger.db', markerName], {
    encoding: 'utf8',
  }).stdout;
  expect(listed.split('\n')).toContain('privacy-ledger/ledger.db');
  expect(listed).not.toContain(markerName);
});
