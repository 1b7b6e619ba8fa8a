import { afterAll, describe, expect, it } from 'vitest';

import { intervalNote } from '../../tracking/report/table.ts';
import { statementBlocks } from '../../tracking/report/statement-blocks.ts';
import { guarantee, privacyStatement } from '../../tracking/statement.ts';
import type { ComparisonResult } from '../../tracking/results.ts';
import { openWorkspace } from '../compiler/workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const spec = (files: string, train: string, size: number | 'counted' = 20000): string => `version: 1
name: statement
datasets:
  records:
    files: ${files}
    label: { values: [neg, pos] }
    sensitivity: private
    privacy: { size: ${size}, budget: { epsilon: 100 } }
  open:
    files: { train: train.jsonl }
    label: { values: [neg, pos] }
    sensitivity: public
steps:
  classifier: { uses: train-classifier, with: { train: ${train}, test: records, epsilon: 4, release: { epsilon: 0.2 } } }
`;
const both = '{ train: train.jsonl, test: test.jsonl }';

describe('the privacy statement of a step that trains and tests on private records', () => {
  it('names both accounts, each with its mechanism, its entry and its guarantee', async () => {
    const plan = await workspace.plan(spec(both, 'records'));
    const statement = privacyStatement(plan, plan.nodes[0]!, (_node, charge) => `entry of ${charge.mechanism.kind}`);
    expect(statement.datasets).toMatchObject([
      {
        dataset: 'records',
        account: 'records',
        split: 'train',
        mechanisms: [{ ledgerEntry: 'entry of poisson-gaussian' }],
      },
      {
        dataset: 'records',
        account: 'records/test',
        split: 'test',
        mechanisms: [{ targetEpsilon: 0.2, ledgerEntry: 'entry of discrete-laplace' }],
      },
    ]);
    const [training, counts] = statement.datasets.map(guarantee) as [string, string];
    expect(training).toContain('for each record of records');
    expect(training).toContain('Batches are Poisson samples');
    expect(counts).toContain('for each test record of records');
    expect(counts).toContain('the number of test records is not told');
    const blocks = JSON.stringify(statementBlocks(statement));
    expect(blocks).toContain('records/test');
    expect(blocks).toContain('b = 5');
    expect(statement.datasets[1]!.epsilon).toBeLessThanOrEqual(0.2);
  });

  it('is about test records alone where the training data are public', async () => {
    const plan = await workspace.plan(spec('{ test: test.jsonl }', 'open'));
    const charged = privacyStatement(plan, null, () => null).datasets.filter(({ mechanisms }) => mechanisms.length > 0);
    expect(charged.map(({ account }) => account)).toEqual(['records/test']);
    expect(plan.privacy['records']).toMatchObject({ experiment: 0, unbounded: 0 });
  });

  it('needs a declared size, for delta, where there are no train records to count', async () => {
    expect(await workspace.faults(spec('{ test: test.jsonl }', 'open', 'counted'))).toEqual([
      expect.stringMatching(/SPEC_PRIVACY Test counts of private dataset "records" need a declared size/),
    ]);
  });
});

describe('the note under the table', () => {
  const comparison = (noisyCounts: boolean): ComparisonResult =>
    ({ arms: [{ covers: 'test set' }], ceiling: null, noisyCounts }) as unknown as ComparisonResult;

  it('says that intervals include the noise, where counts have some', () => {
    expect(intervalNote([comparison(false), comparison(true)])).toContain('charged noise, which the intervals include');
    expect(intervalNote([comparison(false)])).not.toContain('noise');
  });
});
