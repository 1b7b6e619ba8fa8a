import { afterAll, describe, expect, it } from 'vitest';

import { openWorkspace } from '../compiler/workspace.ts';
import type { AuditParams } from '../../schemas/step-params.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

interface Options {
  sensitivity?: string;
  epsilon?: string;
  files?: string;
  audit?: string;
  extra?: string;
  memory?: string;
}

const spec = ({
  sensitivity = 'private',
  epsilon = '4',
  files = '{ train: train.jsonl, test: test.jsonl }',
  audit = '',
  extra = '',
  memory = '4GiB',
}: Options): string => `version: 1
name: audited
datasets:
  records:
    files: ${files}
    label: { values: [neg, pos] }
    sensitivity: ${sensitivity}
    privacy: { size: 20000, budget: { epsilon: 100 } }
models:
  base: { path: model }
matrix: { seed: [1, 2] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: records, epsilon: ${epsilon}, steps: 30, memory: ${memory}, seed: "\${{ matrix.seed }}" }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: 10 } }
  audited: { uses: audit, with: { synthetic: "\${{ steps.synthetic[seed=1] }}"${audit} } }
${extra}`;

const waive = (...names: string[]): string =>
  `waive:\n${names.map((name) => `  - { name: ${name}, reason: Cleared by the board }`).join('\n')}\n`;

const auditing = async (options: Options) => {
  const plan = await workspace.plan(spec(options));
  const [generator, node] = ['generator[seed=1]', 'audited'].map((name) => plan.nodes.find(({ id }) => id === name)!);
  return { plan, generator: generator!, node: node! };
};

describe('an audit step', () => {
  it('reads what its synthetic set was made from, and how', async () => {
    const { plan, generator, node } = await auditing({ sensitivity: 'benchmark' });
    expect(node.inputs).toEqual({
      synthetic: { nodes: ['synthetic[seed=1]'] },
      generator: { nodes: ['generator[seed=1]'] },
      model: { model: 'base' },
      data: { dataset: 'records' },
    });
    expect(node.needs).toEqual(['generator[seed=1]', 'synthetic[seed=1]']);
    expect(node.params).toMatchObject({ canaries: 1000, repetitions: [1, 10, 100], repeated: 10, samples: 5000 });
    const { training, generation } = node.params as AuditParams;
    expect(training).toEqual(generator.params);
    expect(generation).toEqual(plan.nodes.find(({ id }) => id === 'synthetic[seed=1]')!.params);
  });

  it('is charged as its generator is, once more, and its figures are exact', async () => {
    const { plan, generator, node } = await auditing({ sensitivity: 'benchmark' });
    expect(node.privacy).toEqual(generator.privacy);
    expect(node).toMatchObject({ label: 'non-private', sensitivity: 'benchmark' });
    // Two generators and the audit.
    const alone = await workspace.plan(spec({ sensitivity: 'benchmark' }).replace(/^ {2}audited:.*\n/m, ''));
    expect(plan.privacy['records']!.experiment).toBeGreaterThan(1.1 * alone.privacy['records']!.experiment);
  });

  it('needs the waiver of measures against private records, and is told on the accounts of both splits', async () => {
    const told = 'SPEC_PRIVACY Measures against private dataset "records" are exact';
    for (const extra of ['', waive('test-metrics')]) {
      expect((await workspace.faults(spec({ extra }))).join('\n')).toContain(told);
    }
    const { plan, node } = await auditing({ extra: waive('measures') });
    expect(node).toMatchObject({ label: 'non-private', sensitivity: 'private', waivers: ['measures'] });
    expect(plan.privacy['records/test']).toMatchObject({ experiment: 0, unbounded: 0, budget: 100 });
    expect(plan.nodes.filter(({ waivers }) => waivers.length > 0)).toEqual([node]);
  });

  it('audits no generator without DP on private records, whatever is waived; one on a benchmark claims nothing', async () => {
    const extra = waive('measures', 'non-private-training');
    expect((await workspace.faults(spec({ epsilon: '.inf', extra }))).join('\n')).toMatch(
      /SPEC_PRIVACY The text of synthetic\[seed=1\] derives from private records by training without DP/,
    );
    const { node } = await auditing({ sensitivity: 'benchmark', epsilon: '.inf' });
    expect(node.privacy!.mechanism.kind).toBe('unbounded');
  });

  it('needs a test split, and knows its keys', async () => {
    const trainOnly = spec({ files: '{ train: train.jsonl }', sensitivity: 'benchmark' });
    expect((await workspace.faults(trainOnly)).join('\n')).toContain('Dataset "records" has no test split');
    const misspelt = spec({ sensitivity: 'benchmark', audit: ', canary: 10' });
    expect((await workspace.faults(misspelt)).join('\n')).toMatch(/SPEC_UNKNOWN_KEY/);
  });

  it('has the same content key whatever memory training takes, and another one for other training', async () => {
    const keyOf = async (options: Options): Promise<string> =>
      (await auditing({ sensitivity: 'benchmark', ...options })).node.key;
    const key = await keyOf({});
    expect(await keyOf({ memory: '8GiB' })).toBe(key);
    expect(await keyOf({ epsilon: '5' })).not.toBe(key);
    expect(await keyOf({ audit: ', seed: 2' })).not.toBe(key);
  });
});
