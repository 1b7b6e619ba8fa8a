import { afterAll, describe, expect, it } from 'vitest';

import { openWorkspace } from '../compiler/workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

interface Options {
  sensitivity?: string;
  epsilon?: string;
  synthetic?: string;
  real?: string;
  files?: string;
  extra?: string;
}

const spec = ({
  sensitivity = 'private',
  epsilon = '4',
  synthetic = '"${{ steps.synthetic }}"',
  real = 'records',
  files = '{ train: train.jsonl, test: test.jsonl }',
  extra = '',
}: Options): string => `version: 1
name: nearness
datasets:
  records:
    files: ${files}
    label: { values: [neg, pos] }
    sensitivity: ${sensitivity}
    privacy: { size: 20000, budget: { epsilon: 100 } }
  open:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: public
models:
  base: { path: model }
steps:
  generator: { uses: finetune, with: { model: base, data: records, epsilon: ${epsilon} } }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: 10 } }
  nearness: { uses: measure, with: { synthetic: ${synthetic}, real: ${real} } }
${extra}`;

const waive = (...names: string[]): string =>
  `waive:\n${names.map((name) => `  - { name: ${name}, reason: Cleared by the board }`).join('\n')}\n`;

const measuring = async (options: Options) => {
  const plan = await workspace.plan(spec(options));
  return { plan, node: plan.nodes.find(({ id }) => id === 'nearness')! };
};

describe('a measure step', () => {
  it('resolves its defaults, and is exact: non-private of a benchmark, without any charge', async () => {
    const { plan, node } = await measuring({ sensitivity: 'benchmark' });
    expect(node.params).toEqual({ rows: 5000, sequence: 128, similarity: 0.8, resamples: 100, seed: 1 });
    expect(node).toMatchObject({ label: 'non-private', sensitivity: 'benchmark', waivers: [] });
    expect([node.privacy, node.release]).toEqual([undefined, undefined]);
    expect(Object.keys(plan.privacy)).toEqual(['records']);
  });

  it('keeps the label of a synthetic set that it holds against public records', async () => {
    expect((await measuring({ real: 'open' })).node).toMatchObject({ label: 'dp', sensitivity: 'private' });
    const open = { synthetic: 'open', real: 'open' };
    expect((await measuring(open)).node).toMatchObject({ label: 'public', sensitivity: 'public' });
  });

  it('needs a waiver of its own against private records, of either role', async () => {
    const told = 'SPEC_PRIVACY Measures against private dataset "records" are exact';
    for (const extra of ['', waive('test-metrics')]) {
      expect((await workspace.faults(spec({ extra }))).join('\n')).toContain(told);
    }
    const other = { synthetic: 'records', real: 'open' };
    expect((await workspace.faults(spec(other))).join('\n')).toContain(told);
  });

  it('is told under the waiver on the accounts of the splits that it reads', async () => {
    const { plan, node } = await measuring({ extra: waive('measures') });
    expect(node).toMatchObject({ label: 'non-private', sensitivity: 'private', waivers: ['measures'] });
    expect(plan.privacy['records/test']).toMatchObject({ experiment: 0, unbounded: 0, budget: 100 });
    // Other steps have nothing of it.
    expect(plan.nodes.filter(({ waivers }) => waivers.length > 0)).toEqual([node]);
  });

  it('takes no text of a generator without DP on private records, whatever is waived', async () => {
    const extra = waive('measures', 'non-private-training');
    const faults = await workspace.faults(spec({ epsilon: '.inf', extra, real: 'open' }));
    expect(faults.join('\n')).toMatch(
      /SPEC_PRIVACY The text of synthetic derives from private records by training without DP/,
    );
  });

  it('needs a test split to hold text against, and knows its keys', async () => {
    const trainOnly = spec({ files: '{ train: train.jsonl }', sensitivity: 'benchmark' });
    expect((await workspace.faults(trainOnly)).join('\n')).toContain('Dataset "records" has no test split');
    const misspelt = spec({ sensitivity: 'benchmark' }).replace('real: records', 'real: records, row: 10');
    expect((await workspace.faults(misspelt)).join('\n')).toMatch(/SPEC_UNKNOWN_KEY/);
  });
});
