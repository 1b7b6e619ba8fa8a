/** What the ledger knows of a corpus that was decontaminated against private records. */

import { join } from 'node:path';

import { afterAll, expect, it, vi } from 'vitest';

import { main } from '../../cli/main.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { compileRun } from '../../cli/show-run.ts';
import { openWorkspace } from '../compiler/workspace.ts';

const workspace = openWorkspace();
Object.assign(process.env, {
  EPSILONFLOW_HOME: join(workspace.folder, 'state'),
  EPSILONFLOW_LEDGER_URL: `sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`,
});
const startedIn = process.cwd();
process.chdir(workspace.folder);
afterAll(() => {
  process.chdir(startedIn);
  workspace.remove();
});

const spec = `version: 1
name: clean
datasets:
  letters:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    privacy: { size: 20000, budget: { epsilon: 3 } }
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
  const file = workspace.write('spec.yaml', spec);
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
