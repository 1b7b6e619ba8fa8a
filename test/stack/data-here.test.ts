import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, expect, it, vi } from 'vitest';
import { located } from '../../activities/step-queue.ts';
import { withCompileHost } from '../../cli/compile-host.ts';
import { compile } from '../../compiler/index.ts';
import type { Plan } from '../../schemas/plan.ts';
import { readDigested } from '../../datasets/index.ts';
import { DataHere } from '../../stack/data-here.ts';
import { digestHere } from '../../stack/digest-here.ts';
import { ledgerSecret } from '../../privacy/ledger/index.ts';
import { ledgerUrl } from '../../stack/paths.ts';
import { writeRun } from '../../tracking/runs.ts';
import { workspaceOfTests } from '../compiler/workspace-of-tests.ts';

const workspace = workspaceOfTests();
let plan: Plan;

const spec = `version: 1
name: letters
datasets:
  letters:
    files: { train: private.jsonl }
    label: { values: [neg, pos] }
    privacy: { size: 20000, budget: { epsilon: 10 } }
models:
  base: { path: model }
steps:
  generator: { uses: finetune, with: { model: base, data: letters, epsilon: 2, seed: 1 } }
`;

beforeAll(async () => {
  const rows = ['one', 'two', 'three'].map((text, row) => JSON.stringify({ text, label: row % 2 ? 'pos' : 'neg' }));
  workspace.write('private.jsonl', rows.join('\n'));
  const file = workspace.write('letters.yaml', spec);
  plan = await withCompileHost(async (host) => (await compile({ file }, host)).plan);
  const record = { name: 'letters', number: 1, workflowId: 'letters/1', planDigest: plan.digest, specFile: file };
  writeRun({ ...record, startedAt: '2026-01-05T09:00:00Z' }, spec);
});

const found = (datasetSecret = () => ledgerSecret(ledgerUrl())): DataHere =>
  new DataHere([], { store: { loadPlan: () => Promise.resolve(plan) }, datasetSecret });

it('finds data of runs on this host, for plans of others too', async () => {
  const here = found();
  await here.look();
  expect(here.names()).toEqual([plan.datasets['letters']!.digest.slice(0, 32)]);
  const elsewhere = {
    ...plan.datasets['letters']!,
    files: { train: { ...plan.datasets['letters']!.files.train!, path: '/absent' } },
  };
  expect(located({ datasets: { letters: elsewhere }, models: {} }, here.plans).datasets).toEqual(plan.datasets);
});

it('finds data whose files come later', async () => {
  const [place, away] = ['private.jsonl', 'away.jsonl'].map((name) => join(workspace.folder, name)) as [string, string];
  const here = found();
  renameSync(place, away);
  await here.look();
  expect(here.names()).toEqual([]);
  renameSync(away, place);
  await here.look();
  expect(here.names()).toHaveLength(1);
});

it('looks again when the ledger was away', async () => {
  let isAway = true;
  const here = found(async () => {
    if (isAway) throw new Error('the ledger is away');
    return ledgerSecret(ledgerUrl());
  });
  await expect(here.look()).rejects.toThrow('the ledger is away');
  isAway = false;
  await here.look();
  expect(here.names()).toHaveLength(1);
});

it('reads data in a thread, to the same digest or error', async () => {
  const [dataset, secret] = [plan.datasets['letters']!, await ledgerSecret(ledgerUrl())];
  expect(await digestHere(dataset, secret)).toBe((await readDigested(dataset, secret)).digest);
  const train = { ...dataset.files.train!, path: '/absent' };
  await expect(digestHere({ ...dataset, files: { train } }, secret)).rejects.toMatchObject({
    code: 'DATA_FILE_MISSING',
  });
});

it('says once what can not be read, and reads it again a minute later', async () => {
  const said = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  const content = readFileSync(join(workspace.folder, 'private.jsonl'));
  const file = workspace.write('packed.jsonl.gz', 'nothing that was packed');
  const { letters } = plan.datasets;
  const packed = { ...letters!.files.train!, path: file, compression: 'gzip' } as const;
  const store = {
    loadPlan: () => Promise.resolve({ ...plan, datasets: { letters: { ...letters!, files: { train: packed } } } }),
  };
  const here = new DataHere([], { store, datasetSecret: () => ledgerSecret(ledgerUrl()) });
  await here.look();
  writeFileSync(file, gzipSync(content));
  await here.look();
  expect(here.names()).toEqual([]);
  expect(said.mock.calls.flat()).toEqual([
    expect.stringMatching(
      / DATA_UNREADABLE: Steps on dataset letters are not taken here, .* It is tried again by itself\.$/,
    ),
  ]);
  said.mockRestore();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61_000 });
  try {
    await here.look();
    expect(here.names()).toHaveLength(1);
  } finally {
    vi.useRealTimers();
  }
});
