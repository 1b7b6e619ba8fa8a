/** What the ledger knows of a corpus that was decontaminated against private records. */

import { expect, it, vi } from 'vitest';

import { main } from '../../cli/main.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { compileRun } from '../../cli/show-run.ts';
import { workspaceOfTests } from '../compiler/workspace-of-tests.ts';

const workspace = workspaceOfTests();

const spec = (
  files = '{ train: train.jsonl, test: test.jsonl }',
  privacy = 'privacy: { size: 20000, budget: { epsilon: 3 } }',
): string => `version: 1
name: clean
datasets:
  letters:
    files: ${files}
    label: { values: [neg, pos] }
    ${privacy}
  corpus: { files: { train: corpus.jsonl }, sensitivity: public }
steps:
  clean: { uses: decontaminate, with: { corpus: corpus, against: [letters] } }
waive: [{ name: decontamination, reason: cleared by the board }]
`;

async function epsilonflow(...args: string[]): Promise<string> {
  let text = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  await main(args);
  process.exitCode = undefined;
  write.mockRestore();
  return text;
}

it('is a row on the accounts of both splits, whose records are registered', async () => {
  const file = workspace.write('spec.yaml', spec());
  expect(await epsilonflow('plan', file)).toMatch(/letters\/test.*\n.*\n.*\n.*exact figures.*decontamination/);
  for (let time = 0; time < 2; time++) {
    const { compiled, registrations } = await compileRun(file, undefined);
    await registerPlan(compiled.plan, registrations, () => undefined);
  }
  const { accounts } = JSON.parse(await epsilonflow('ledger', 'show', '--json')) as { accounts: object[] };
  const waivers = [{ waiver: 'decontamination', reason: 'cleared by the board', experiment: 'clean' }];
  expect(accounts).toMatchObject([
    { account: 'letters', total: 0, waivers },
    { account: 'letters/test', total: 0, waivers },
  ]);
  expect(await epsilonflow('ledger', 'show', 'letters')).toMatch(
    /waives decontamination on this account \(“cleared by the board”\): counts of what a corpus shares with its records/,
  );
  expect(JSON.parse(await epsilonflow('ledger', 'verify', '--json'))).toMatchObject({ intact: true });
});

const lines = (...texts: string[]): string =>
  texts.map((text, row) => JSON.stringify({ text, label: row % 2 ? 'pos' : 'neg' })).join('\n') + '\n';

async function begin(text: string): Promise<void> {
  const { compiled, registrations } = await compileRun(workspace.write('spec.yaml', text), undefined);
  await registerPlan(compiled.plan, registrations, () => undefined);
}

it.each([
  ['mails', '{ validation: mails.jsonl, test: mails-test.jsonl }', ['mails', 'mails/test']],
  ['notes', '{ validation: notes.jsonl }', ['notes']],
])('is a row on the account of validation records: %s of %s', async (name, files, expected) => {
  workspace.write(`${name}.jsonl`, lines(`some ${name} held out`, `other ${name} held out`));
  workspace.write(`${name}-test.jsonl`, lines(`some ${name} to test`, `other ${name} to test`));
  await begin(spec(files).replaceAll('letters', name));
  const { accounts } = JSON.parse(await epsilonflow('ledger', 'show', '--json')) as {
    accounts: { account: string; waivers: { waiver: string }[] }[];
  };
  const found = accounts.filter(({ account }) => account.startsWith(name));
  expect(found.map(({ account, waivers }) => [account, waivers.map(({ waiver }) => waiver)])).toEqual(
    expected.map((account) => [account, ['decontamination']]),
  );
});

it.each([
  ['without a size', 'sensitivity: benchmark'],
  ['with one', 'sensitivity: benchmark\n    privacy: { size: 200 }'],
])('registers validation records of a benchmark %s: private data that hold them are refused', async (why, privacy) => {
  workspace.write('held.jsonl', lines(`a letter ${why}`, `another one ${why}`));
  const name = why.replaceAll(' ', '-');
  await begin(spec('{ validation: held.jsonl }', privacy).replaceAll('letters', name));
  await expect(begin(spec('{ validation: held.jsonl }').replaceAll('letters', 'secrets'))).rejects.toMatchObject({
    code: 'DATASET_OVERLAP',
    message: expect.stringContaining(name) as string,
  });
});
