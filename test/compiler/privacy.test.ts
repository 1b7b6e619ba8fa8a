import { afterAll, describe, expect, it } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import type { Plan, PlanNode } from '../../schemas/plan.ts';
import { openWorkspace } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

interface Options {
  sensitivity?: string;
  privacy?: string;
  epsilon?: string;
  train?: string;
  test?: string;
  extra?: string;
}

/** One dataset, the whole pipeline. */
const spec = ({
  sensitivity = 'private',
  privacy = '{ size: 20000, budget: { epsilon: 100 } }',
  epsilon = '4',
  train = 'records',
  test = 'records',
  extra = '',
}: Options): string => `version: 1
name: privacy
datasets:
  records:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: ${sensitivity}
    privacy: ${privacy}
  open:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: public
models:
  base: { path: model }
steps:
  generator: { uses: finetune, with: { model: base, data: ${train}, epsilon: ${epsilon} } }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: 10 } }
  on-synthetic: { uses: train-classifier, with: { train: "\${{ steps.synthetic }}", test: ${test} } }
  on-real: { uses: train-classifier, with: { train: ${train}, test: ${test}, epsilon: ${epsilon} } }
  comparison: { uses: compare, with: { arms: { a: "\${{ steps.on-real }}", b: "\${{ steps.on-synthetic }}" } } }
${extra}`;

const waive = (...names: string[]): string =>
  `waive:\n${names.map((name) => `  - { name: ${name}, reason: Cleared by the board }`).join('\n')}\n`;

const labels = (nodes: PlanNode[]): Record<string, string> =>
  Object.fromEntries(nodes.map(({ id, label, sensitivity }) => [id, `${label}, ${sensitivity}`]));

it('plans float arithmetic for all weights alone, as a mechanism of its own', async () => {
  const digests = new Set<string>();
  for (const [method, arithmetic] of [
    ['{ kind: lora }', 'exact'],
    ['{ kind: prompt, init: { text: a review } }', 'exact'],
    ['{ kind: full }', 'float'],
  ] as const) {
    const text = spec({}).replace('data: records, epsilon: 4 }', `data: records, epsilon: 4, method: ${method} }`);
    const { nodes } = await workspace.plan(text);
    expect(nodes.find(({ id }) => id === 'generator')!.privacy!.mechanism).toMatchObject({ arithmetic });
    expect(nodes.find(({ id }) => id === 'on-real')!.privacy!.mechanism).toMatchObject({ arithmetic: 'exact' });
    digests.add(nodes.find(({ id }) => id === 'generator')!.privacy!.digest);
  }
  expect(digests.size).toBe(2);
});

describe('labels', () => {
  it('of a private dataset under a waiver for its test metrics', async () => {
    const plan = await workspace.plan(spec({ extra: waive('test-metrics') }));
    expect(labels(plan.nodes)).toEqual({
      generator: 'dp, private',
      synthetic: 'dp, private',
      'on-synthetic': 'non-private, private',
      'on-real': 'non-private, private',
      comparison: 'non-private, private',
    });
    expect(plan.waivers).toEqual([{ name: 'test-metrics', reason: 'Cleared by the board' }]);
    expect(plan.nodes.map(({ waivers }) => waivers)).toEqual([
      [],
      [],
      ['test-metrics'],
      ['test-metrics'],
      ['test-metrics'],
    ]);
    // Nothing is charged for it, yet the account of the test records is asked for and told.
    expect(plan.privacy['records/test']).toMatchObject({ experiment: 0, unbounded: 0, budget: 100 });
  });

  it('of a private dataset whose test counts get noise', async () => {
    const plan = await workspace.plan(spec({}));
    expect(new Set(plan.nodes.map(({ label }) => label))).toEqual(new Set(['dp']));
    const released = plan.nodes.filter(({ release }) => release !== undefined);
    expect(released.map(({ id }) => id)).toEqual(['on-synthetic', 'on-real']);
    for (const { params, release, waivers } of released) {
      expect(params).toMatchObject({ release: { epsilon: 0.1 } });
      expect(waivers).toEqual([]);
      expect(release).toMatchObject({
        dataset: 'records',
        targetEpsilon: 0.1,
        mechanism: { kind: 'discrete-laplace', scale: 10, sensitivity: 1 },
      });
    }
    // Training and test splits pay apart: two tables on one account, two trainings on the other.
    expect(Object.keys(plan.privacy)).toEqual(['records', 'records/test']);
    expect(plan.privacy['records/test']!.experiment).toBeLessThanOrEqual(0.2);
    expect(plan.privacy['records/test']!.experiment).toBeGreaterThan(0.19);
    expect(plan.privacy['records']!.experiment).toBeGreaterThan(4);
    expect(plan.privacy['records']!.experiment).toBeLessThan(8);
  });

  it('of public training data tested on private records', async () => {
    const plan = await workspace.plan(spec({ train: 'open' }));
    expect(labels(plan.nodes)).toEqual({
      generator: 'public, public',
      synthetic: 'public, public',
      'on-synthetic': 'dp, private',
      'on-real': 'dp, private',
      comparison: 'dp, private',
    });
    expect(plan.nodes.flatMap(({ privacy }) => privacy ?? [])).toEqual([]);
    expect(plan.privacy['records']!.experiment).toBe(0);
  });

  it('of a private dataset tested on public text', async () => {
    const plan = await workspace.plan(spec({ test: 'open' }));
    expect(new Set(plan.nodes.map(({ label }) => label))).toEqual(new Set(['dp']));
  });

  it('of a benchmark without DP', async () => {
    const plan = await workspace.plan(spec({ sensitivity: 'benchmark', privacy: '{ size: 20000 }', epsilon: '.inf' }));
    expect(new Set(Object.values(labels(plan.nodes)))).toEqual(new Set(['non-private, benchmark']));
  });

  it('of public data, which cost nothing whatever epsilon is asked', async () => {
    const plan = await workspace.plan(spec({ train: 'open', test: 'open' }));
    expect(new Set(Object.values(labels(plan.nodes)))).toEqual(new Set(['public, public']));
    expect(plan.nodes.every(({ privacy }) => privacy === undefined)).toBe(true);
    expect(plan.privacy).toEqual({});
  });
});

describe('a private dataset', () => {
  it.each<[string, Options, string[]]>([
    [
      'needs a declared size',
      { privacy: '{ budget: { epsilon: 9 } }' },
      ['4:3 SPEC_PRIVACY Private dataset "records" declares no size'],
    ],
    ['needs a budget', { privacy: '{ size: 20000 }' }, ['4:3 SPEC_PRIVACY Private dataset "records" has no budget']],
    [
      'needs both',
      { privacy: '{ unit: record }' },
      [
        '4:3 SPEC_PRIVACY Private dataset "records" declares no size',
        '4:3 SPEC_PRIVACY Private dataset "records" has no budget',
      ],
    ],
    [
      'has a delta that protects a record',
      { privacy: '{ size: 20000, delta: 1e-4, budget: { epsilon: 9 } }' },
      [
        '4:3 SPEC_PRIVACY Delta 0.0001 of dataset "records" is above 1 / size: publishing one record whole would keep it',
      ],
    ],
    [
      'is not trained on without DP',
      { epsilon: '.inf', test: 'open' },
      [
        '16:77 SPEC_PRIVACY Training without DP on private dataset "records" gives no guarantee at all',
        '19:83 SPEC_PRIVACY Training without DP on private dataset "records" gives no guarantee at all',
      ],
    ],
    [
      'is no corpus',
      { test: 'open', extra: '  base: { uses: pretrain, with: { corpus: records } }' },
      ['21:43 SPEC_PRIVACY Pre-training reads public text only; dataset "records" is private'],
    ],
    [
      'takes no waiver without a reason',
      { extra: 'waive: [test-metrics]', test: 'open' },
      ['21:9 SPEC_SCHEMA Item 1 of "waive" must be a mapping, not "test-metrics"'],
    ],
  ])('%s', async (_what, options, expected) => {
    expect(await workspace.faults(spec(options))).toEqual(expected);
  });

  it('may be trained on without DP under a waiver, and the result stays non-private', async () => {
    const { plan, refusals } = await workspace.compile(
      spec({ epsilon: '.inf', test: 'open', extra: waive('non-private-training') }),
    );
    expect(new Set(plan.nodes.map(({ label }) => label))).toEqual(new Set(['non-private']));
    expect(plan.privacy['records']).toMatchObject({ experiment: 0, unbounded: 2 });
    expect(refusals.map(({ code }) => code)).toEqual(['BUDGET_REFUSED']);
  });

  it('is named by a keyed digest', async () => {
    const secret = await workspace.plan(spec({ extra: waive('test-metrics') }));
    const open = await workspace.plan(spec({ sensitivity: 'benchmark', privacy: '{ size: 20000 }' }));
    expect(secret.datasets['records']!.digest).not.toBe(open.datasets['records']!.digest);
  });
});

describe('mechanisms', () => {
  it('follow from the declared size, and hold their target', async () => {
    const plan = await workspace.plan(spec({ sensitivity: 'benchmark', privacy: '{ size: 20000 }' }));
    const { privacy } = plan.nodes[0]!;
    const { delta } = plan.datasets['records']!.privacy!;
    expect(delta).toBeCloseTo(1 / (20000 * Math.log(20000)), 15);
    expect(privacy).toMatchObject({
      dataset: 'records',
      targetEpsilon: 4,
      delta,
      mechanism: {
        kind: 'poisson-gaussian',
        samplingProbability: 1024 / 20000,
        steps: 50,
        clipNorm: 0.5,
        expectedBatchSize: 1024,
        arithmetic: 'exact',
      },
    });
    if (privacy?.mechanism.kind !== 'poisson-gaussian') throw new Error('no mechanism');
    const { samplingProbability, noiseMultiplier, steps } = privacy.mechanism;
    const event = { mechanism: 'poisson-gaussian' as const, samplingProbability, noiseMultiplier, count: steps };
    const spent = composedEpsilon([event], delta).epsilon;
    expect(spent).toBeLessThanOrEqual(4);
    expect(spent).toBeGreaterThan(3.99);
    expect(privacy.epsilon).toBe(spent);
  });

  it('of a benchmark without a size follow from its count', async () => {
    const plan = await workspace.plan(
      spec({ sensitivity: 'benchmark', privacy: '{ unit: record }' }).replaceAll('epsilon: 4', 'epsilon: .inf'),
    );
    expect(plan.datasets['records']!.privacy).toMatchObject({ size: 4, counted: true });
  });

  it('are composed by dataset, less than their sum; equal work is charged once', async () => {
    const plan = await workspace.plan(spec({ sensitivity: 'benchmark', privacy: '{ size: 20000 }' }));
    const { experiment } = plan.privacy['records']!;
    expect(experiment).toBeGreaterThan(4);
    expect(experiment).toBeLessThan(8);
    const twice = spec({ sensitivity: 'benchmark', privacy: '{ size: 20000 }' }).replace(
      'steps:',
      'steps:\n  again: { uses: finetune, with: { model: base, data: records, epsilon: 4 } }',
    );
    expect((await workspace.plan(twice)).privacy['records']!.experiment).toBe(experiment);
  });

  it('that no noise can reach are refused where epsilon stands', async () => {
    const faults = await workspace.faults(
      spec({ sensitivity: 'benchmark', privacy: '{ size: 20000, delta: 1e-12 }', epsilon: '1e-9' }),
    );
    expect(faults[0]).toMatch(/^16:77 SPEC_PRIVACY No noise multiplier in range reaches epsilon/);
  });
});

describe('the release of test counts', () => {
  const releasing = (release: string, options: Options = {}): string =>
    spec(options).replace('on-real: { uses: train-classifier, with: {', `$& release: ${release},`);

  it('costs what the spec says, and another cost is another result', async () => {
    const cheap = await workspace.plan(releasing('{ epsilon: 0.1 }'));
    const dear = await workspace.plan(releasing('{ epsilon: 0.5 }'));
    const node = ({ nodes }: Plan): PlanNode => nodes.find(({ id }) => id === 'on-real')!;
    expect(node(dear).release).toMatchObject({ targetEpsilon: 0.5, mechanism: { scale: 2 } });
    expect(node(dear).key).not.toBe(node(cheap).key);
    expect(node(dear).privacy!.digest).toBe(node(cheap).privacy!.digest);
  });

  it('changes no content key where it has no effect', async () => {
    const options = { sensitivity: 'benchmark', privacy: '{ size: 20000 }' };
    const plain = await workspace.plan(spec(options));
    const stated = await workspace.plan(releasing('{ epsilon: 3 }', options));
    expect(stated.nodes.map(({ key }) => key)).toEqual(plain.nodes.map(({ key }) => key));
    const waived = await workspace.plan(releasing('{ epsilon: 3 }', { extra: waive('test-metrics') }));
    expect(waived.nodes.every(({ release }) => release === undefined)).toBe(true);
  });

  it.each([
    ['{ epsilon: 0 }', /SPEC_SCHEMA/],
    ['{ epsilon: 1e-9 }', /SPEC_PRIVACY scale must be a number/],
    ['{ sigma: 1 }', /SPEC_UNKNOWN_KEY/],
  ])('%s is refused', async (release, fault) => {
    expect((await workspace.faults(releasing(release))).join('\n')).toMatch(fault);
  });
});

describe('a budget', () => {
  const budgeted = (epsilon: number): string =>
    spec({ privacy: `{ size: 20000, budget: { epsilon: ${epsilon} } }`, test: 'open' });

  it('that holds the plan is no refusal', async () => {
    const { plan, refusals } = await workspace.compile(budgeted(8));
    expect(refusals).toEqual([]);
    expect(plan.privacy['records']).toMatchObject({ before: null, after: null, budget: 8, unbounded: 0 });
  });

  it('that the plan exceeds is named with its place and by how much', async () => {
    const { plan, refusals } = await workspace.compile(budgeted(5));
    const excess = plan.privacy['records']!.experiment - 5;
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toMatchObject({ code: 'BUDGET_REFUSED', exitCode: 3, position: { line: 19, column: 3 } });
    expect(refusals[0]!.message).toContain(`exceed it by ${excess.toPrecision(4).replace(/0+$/, '')}`);
  });
});
