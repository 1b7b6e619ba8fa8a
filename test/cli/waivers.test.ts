/** Exact figures of private test records under a waiver: what the ledger knows of them afterwards. */

import { beforeAll, expect, it, vi } from 'vitest';

import { compileRun } from '../../cli/show-run.ts';
import { main } from '../../cli/main.ts';
import { registerPlan } from '../../cli/registrations.ts';
import { workspaceOfTests } from '../compiler/workspace-of-tests.ts';

const workspace = workspaceOfTests();

/** A classifier of public data, tested on private records. */
const spec = (name: string, dataset: string, test: string, extra = ''): string => `version: 1
name: ${name}
datasets:
  ${dataset}:
    files: { test: ${test} }
    label: { values: [neg, pos] }
    privacy: { size: 20000, budget: { epsilon: 3 } }
  open:
    files: { train: train.jsonl }
    label: { values: [neg, pos] }
    sensitivity: public
steps:
  classifier: { uses: train-classifier, with: { train: open, test: ${dataset} } }
${extra}`;
const waive = 'waive: [{ name: test-metrics, reason: cleared by the board }]\n';
const records = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, row) =>
    JSON.stringify({ text: `what patient ${from + row} said`, label: row % 2 ? 'pos' : 'neg' }),
  ).join('\n') + '\n';

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

/** What `run` tells the ledger before it starts a workflow. */
async function begin(file: string): Promise<void> {
  const { compiled, registrations } = await compileRun(file, undefined);
  expect(compiled.refusals).toEqual([]);
  await registerPlan(compiled.plan, registrations, () => undefined);
}

beforeAll(() => {
  workspace.write('patients.jsonl', records(0, 500));
  workspace.write('waived.yaml', spec('first', 'patients', 'patients.jsonl', waive));
  workspace.write('counted.yaml', spec('second', 'patients', 'patients.jsonl'));
});

it('is a row on the account of the test split, which show tells beside what later plans spend', async () => {
  expect(await epsilonflow('plan', 'waived.yaml')).toMatch(/patients\/test.*\n.*\n.*\n.*exact figures.*test-metrics/);
  await begin('waived.yaml');
  await begin('waived.yaml');
  await begin('counted.yaml');
  const { accounts } = JSON.parse(await epsilonflow('ledger', 'show', '--json')) as { accounts: object[] };
  expect(accounts).toMatchObject([
    {
      account: 'patients/test',
      budget: 3,
      total: 0,
      waivers: [{ waiver: 'test-metrics', reason: 'cleared by the board', experiment: 'first' }],
    },
  ]);
  const shown = await epsilonflow('ledger', 'show', 'patients/test');
  expect(shown).toMatch(
    /waives test-metrics on this account \(“cleared by the board”\).*It was first, plan [0-9a-f]{12}/,
  );
  expect(JSON.parse(await epsilonflow('ledger', 'verify', '--json'))).toMatchObject({ intact: true });
});

it('registers the test records: others that share them are refused', async () => {
  workspace.write('others.jsonl', records(400, 900));
  workspace.write('others.yaml', spec('third', 'others', 'others.jsonl', waive));
  expect(JSON.parse(await epsilonflow('plan', 'others.yaml', '--json'))).toMatchObject({
    errors: [
      {
        code: 'DATASET_OVERLAP',
        message: expect.stringContaining('others/test shares records with account patients/test') as string,
      },
    ],
  });
});

const benchmark = (test: string): string =>
  spec('fourth', 'stand-in', test).replace(
    'privacy: { size: 20000, budget: { epsilon: 3 } }',
    'sensitivity: benchmark',
  );

it('is needed: private records are no test split of a benchmark, whose figures are exact', async () => {
  workspace.write('stand-in.yaml', benchmark('patients.jsonl'));
  expect(JSON.parse(await epsilonflow('plan', 'stand-in.yaml', '--json'))).toMatchObject({
    errors: [
      {
        code: 'DATASET_OVERLAP',
        message: expect.stringMatching(/stand-in\/test is called a benchmark.*account patients\/test/) as string,
      },
    ],
  });
});

it('is not open to private records that a benchmark has shown before', async () => {
  workspace.write('shown.jsonl', records(2000, 2100));
  workspace.write('stand-in.yaml', benchmark('shown.jsonl'));
  await begin('stand-in.yaml');
  workspace.write('copied.yaml', spec('fifth', 'copied', 'shown.jsonl', waive));
  expect(JSON.parse(await epsilonflow('plan', 'copied.yaml', '--json'))).toMatchObject({
    errors: [
      {
        code: 'DATASET_OVERLAP',
        message: expect.stringContaining('copied/test shares records with account stand-in/test') as string,
      },
    ],
  });
});
