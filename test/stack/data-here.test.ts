import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { located } from '../../activities/step-queue.ts';
import { withCompileHost } from '../../cli/compile-host.ts';
import { compile } from '../../compiler/index.ts';
import type { Plan } from '../../schemas/plan.ts';
import { DataHere } from '../../stack/data-here.ts';
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
