import { afterAll, describe, expect, it } from 'vitest';

import type { FinetuneParams } from '../../schemas/step-params.ts';
import { openWorkspace, planText, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const pipeline = `
steps:
  generator:
    uses: finetune
    with: { model: base, data: "\${{ matrix.dataset }}", epsilon: "\${{ matrix.epsilon }}", method: "\${{ matrix.method }}", seed: "\${{ matrix.seed }}" }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 100, seed: "\${{ matrix.seed }}" }
  on-synthetic:
    uses: train-classifier
    with: { train: "\${{ steps.synthetic }}", test: "\${{ matrix.dataset }}", seed: "\${{ matrix.seed }}" }
  on-real:
    uses: train-classifier
    with: { train: "\${{ matrix.dataset }}", test: "\${{ matrix.dataset }}", epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  comparison:
    uses: compare
    with:
      arms: { real-dp: "\${{ steps.on-real }}", synthetic: "\${{ steps.on-synthetic }}" }
      ceiling: "\${{ steps.on-real[epsilon=inf] }}"
      over: [seed]
`;

describe('a spec with a matrix', () => {
  it('runs each step once for each combination of the axes that reach it', async () => {
    const plan = await workspace.plan(`${preamble}
matrix:
  dataset: [reviews]
  epsilon: [8, .inf]
  method:
    small: { kind: lora, rank: 2 }
    large: { kind: lora, rank: 16, lr: 1e-3 }
  seed: [1, 2]
${pipeline}`);
    expect(planText(plan)).toMatchInlineSnapshot(`
      "generator[dataset=reviews,epsilon=8,method=small,seed=1] (dp) <- model: base; data: reviews !! epsilon 8, q 0.0512, 50 steps
      generator[dataset=reviews,epsilon=8,method=small,seed=2] (dp) <- model: base; data: reviews !! epsilon 8, q 0.0512, 50 steps
      generator[dataset=reviews,epsilon=8,method=large,seed=1] (dp) <- model: base; data: reviews !! epsilon 8, q 0.0512, 50 steps
      generator[dataset=reviews,epsilon=8,method=large,seed=2] (dp) <- model: base; data: reviews !! epsilon 8, q 0.0512, 50 steps
      generator[dataset=reviews,epsilon=inf,method=small,seed=1] (non-private) <- model: base; data: reviews !! unbounded
      generator[dataset=reviews,epsilon=inf,method=small,seed=2] (non-private) <- model: base; data: reviews !! unbounded
      generator[dataset=reviews,epsilon=inf,method=large,seed=1] (non-private) <- model: base; data: reviews !! unbounded
      generator[dataset=reviews,epsilon=inf,method=large,seed=2] (non-private) <- model: base; data: reviews !! unbounded
      synthetic[dataset=reviews,epsilon=8,method=small,seed=1] (dp) <- generator: generator[dataset=reviews,epsilon=8,method=small,seed=1]; model: base
      synthetic[dataset=reviews,epsilon=8,method=small,seed=2] (dp) <- generator: generator[dataset=reviews,epsilon=8,method=small,seed=2]; model: base
      synthetic[dataset=reviews,epsilon=8,method=large,seed=1] (dp) <- generator: generator[dataset=reviews,epsilon=8,method=large,seed=1]; model: base
      synthetic[dataset=reviews,epsilon=8,method=large,seed=2] (dp) <- generator: generator[dataset=reviews,epsilon=8,method=large,seed=2]; model: base
      synthetic[dataset=reviews,epsilon=inf,method=small,seed=1] (non-private) <- generator: generator[dataset=reviews,epsilon=inf,method=small,seed=1]; model: base
      synthetic[dataset=reviews,epsilon=inf,method=small,seed=2] (non-private) <- generator: generator[dataset=reviews,epsilon=inf,method=small,seed=2]; model: base
      synthetic[dataset=reviews,epsilon=inf,method=large,seed=1] (non-private) <- generator: generator[dataset=reviews,epsilon=inf,method=large,seed=1]; model: base
      synthetic[dataset=reviews,epsilon=inf,method=large,seed=2] (non-private) <- generator: generator[dataset=reviews,epsilon=inf,method=large,seed=2]; model: base
      on-synthetic[dataset=reviews,epsilon=8,method=small,seed=1] (non-private) <- train: synthetic[dataset=reviews,epsilon=8,method=small,seed=1]; test: reviews
      on-synthetic[dataset=reviews,epsilon=8,method=small,seed=2] (non-private) <- train: synthetic[dataset=reviews,epsilon=8,method=small,seed=2]; test: reviews
      on-synthetic[dataset=reviews,epsilon=8,method=large,seed=1] (non-private) <- train: synthetic[dataset=reviews,epsilon=8,method=large,seed=1]; test: reviews
      on-synthetic[dataset=reviews,epsilon=8,method=large,seed=2] (non-private) <- train: synthetic[dataset=reviews,epsilon=8,method=large,seed=2]; test: reviews
      on-synthetic[dataset=reviews,epsilon=inf,method=small,seed=1] (non-private) <- train: synthetic[dataset=reviews,epsilon=inf,method=small,seed=1]; test: reviews
      on-synthetic[dataset=reviews,epsilon=inf,method=small,seed=2] (non-private) <- train: synthetic[dataset=reviews,epsilon=inf,method=small,seed=2]; test: reviews
      on-synthetic[dataset=reviews,epsilon=inf,method=large,seed=1] (non-private) <- train: synthetic[dataset=reviews,epsilon=inf,method=large,seed=1]; test: reviews
      on-synthetic[dataset=reviews,epsilon=inf,method=large,seed=2] (non-private) <- train: synthetic[dataset=reviews,epsilon=inf,method=large,seed=2]; test: reviews
      on-real[dataset=reviews,epsilon=8,seed=1] (non-private) <- train: reviews; test: reviews !! epsilon 8, q 0.102, 60 steps
      on-real[dataset=reviews,epsilon=8,seed=2] (non-private) <- train: reviews; test: reviews !! epsilon 8, q 0.102, 60 steps
      on-real[dataset=reviews,epsilon=inf,seed=1] (non-private) <- train: reviews; test: reviews !! unbounded
      on-real[dataset=reviews,epsilon=inf,seed=2] (non-private) <- train: reviews; test: reviews !! unbounded
      comparison[dataset=reviews,epsilon=8,method=small] (non-private) <- arms.real-dp: on-real[dataset=reviews,epsilon=8,seed=1] + on-real[dataset=reviews,epsilon=8,seed=2]; arms.synthetic: on-synthetic[dataset=reviews,epsilon=8,method=small,seed=1] + on-synthetic[dataset=reviews,epsilon=8,method=small,seed=2]; ceiling: on-real[dataset=reviews,epsilon=inf,seed=1] + on-real[dataset=reviews,epsilon=inf,seed=2]
      comparison[dataset=reviews,epsilon=8,method=large] (non-private) <- arms.real-dp: on-real[dataset=reviews,epsilon=8,seed=1] + on-real[dataset=reviews,epsilon=8,seed=2]; arms.synthetic: on-synthetic[dataset=reviews,epsilon=8,method=large,seed=1] + on-synthetic[dataset=reviews,epsilon=8,method=large,seed=2]; ceiling: on-real[dataset=reviews,epsilon=inf,seed=1] + on-real[dataset=reviews,epsilon=inf,seed=2]
      comparison[dataset=reviews,epsilon=inf,method=small] (non-private) <- arms.real-dp: on-real[dataset=reviews,epsilon=inf,seed=1] + on-real[dataset=reviews,epsilon=inf,seed=2]; arms.synthetic: on-synthetic[dataset=reviews,epsilon=inf,method=small,seed=1] + on-synthetic[dataset=reviews,epsilon=inf,method=small,seed=2]; ceiling: on-real[dataset=reviews,epsilon=inf,seed=1] + on-real[dataset=reviews,epsilon=inf,seed=2]
      comparison[dataset=reviews,epsilon=inf,method=large] (non-private) <- arms.real-dp: on-real[dataset=reviews,epsilon=inf,seed=1] + on-real[dataset=reviews,epsilon=inf,seed=2]; arms.synthetic: on-synthetic[dataset=reviews,epsilon=inf,method=large,seed=1] + on-synthetic[dataset=reviews,epsilon=inf,method=large,seed=2]; ceiling: on-real[dataset=reviews,epsilon=inf,seed=1] + on-real[dataset=reviews,epsilon=inf,seed=2]"
    `);
  });

  it('puts labelled objects into the parameters and fills in the rest', async () => {
    const plan = await workspace.plan(`${preamble}
matrix:
  dataset: [reviews]
  epsilon: [8, .inf]
  method: { small: { kind: lora, rank: 2 } }
  seed: [1]
${pipeline}`);
    const { method, steps, batch, conditioning } = plan.nodes[0]!.params as FinetuneParams;
    expect(method).toEqual({
      kind: 'lora',
      rank: 2,
      alpha: 16,
      targets: ['q', 'k', 'v', 'o', 'gate', 'up', 'down'],
      lr: 0.005,
    });
    expect({ steps, batch, conditioning }).toEqual({ steps: 50, batch: 1024, conditioning: 'class-bias' });
    expect(JSON.stringify(plan)).not.toContain('${{');
  });

  it('replaces expressions deep inside parameters', async () => {
    const plan = await workspace.plan(`${preamble}
matrix: { rank: [1, 4] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: 4, method: { kind: lora, rank: "\${{ matrix.rank }}" } }
`);
    expect(plan.nodes.map(({ params }) => (params as FinetuneParams).method)).toMatchObject([{ rank: 1 }, { rank: 4 }]);
  });

  it('excludes and includes combinations by value or label', async () => {
    const plan = await workspace.plan(`${preamble}
matrix:
  dataset: [reviews, other]
  epsilon: [3, 8, .inf]
  method: { small: { kind: lora, rank: 2 }, large: { kind: lora, rank: 16 } }
  seed: [1]
  exclude:
    - { dataset: other, epsilon: 3 }
    - { method: large, epsilon: inf }
    - { method: large, dataset: other }
  include:
    - { dataset: other, epsilon: 1, method: large, seed: 7 }
${pipeline.replace(/ {2}comparison:[\s\S]*/, '')}`);
    const ids = plan.nodes.filter(({ step }) => step === 'generator' || step === 'on-real').map(({ id }) => id);
    // What is included is one combination: its new values join no other.
    expect(ids).toEqual([
      'generator[dataset=reviews,epsilon=3,method=small,seed=1]',
      'generator[dataset=reviews,epsilon=3,method=large,seed=1]',
      'generator[dataset=reviews,epsilon=8,method=small,seed=1]',
      'generator[dataset=reviews,epsilon=8,method=large,seed=1]',
      'generator[dataset=reviews,epsilon=inf,method=small,seed=1]',
      'generator[dataset=other,epsilon=8,method=small,seed=1]',
      'generator[dataset=other,epsilon=inf,method=small,seed=1]',
      'generator[dataset=other,epsilon=1,method=large,seed=7]',
      'on-real[dataset=reviews,epsilon=3,seed=1]',
      'on-real[dataset=reviews,epsilon=8,seed=1]',
      'on-real[dataset=reviews,epsilon=inf,seed=1]',
      'on-real[dataset=other,epsilon=8,seed=1]',
      'on-real[dataset=other,epsilon=inf,seed=1]',
      'on-real[dataset=other,epsilon=1,seed=7]',
    ]);
  });

  it('takes none for an unbounded epsilon, also under a label', async () => {
    const plan = await workspace.plan(`${preamble}
matrix:
  epsilon: { low: 3, off: none }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}" }
`);
    expect(plan.nodes.map(({ id, params }) => [id, (params as FinetuneParams).epsilon])).toEqual([
      ['generator[epsilon=low]', 3],
      ['generator[epsilon=off]', 'inf'],
    ]);
  });

  it('orders by needs without passing data', async () => {
    const plan = await workspace.plan(`${preamble}
matrix: { seed: [1, 2], epsilon: [8] }
steps:
  late:
    uses: finetune
    needs: [early]
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  early:
    uses: finetune
    with: { model: base, data: other, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
`);
    expect(plan.nodes.map(({ id, needs }) => [id, needs])).toEqual([
      ['early[seed=1,epsilon=8]', []],
      ['early[seed=2,epsilon=8]', []],
      ['late[seed=1,epsilon=8]', ['early[seed=1,epsilon=8]']],
      ['late[seed=2,epsilon=8]', ['early[seed=2,epsilon=8]']],
    ]);
  });

  it('pre-trains a base model on public text and hands it down to generation', async () => {
    const plan = await workspace.plan(`${preamble.replace(
      'models:',
      `  corpus: { files: { train: corpus.jsonl }, sensitivity: public }
models:`,
    )}
steps:
  pretrained: { uses: pretrain, with: { corpus: corpus } }
  generator: { uses: finetune, with: { model: "\${{ steps.pretrained }}", data: reviews, epsilon: 2 } }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: 10 } }
`);
    expect(planText(plan)).toMatchInlineSnapshot(`
      "pretrained (public) <- corpus: corpus
      generator (dp) <- model: pretrained; data: reviews !! epsilon 2, q 0.0512, 50 steps
      synthetic (dp) <- generator: generator; model: pretrained"
    `);
  });
});

describe('names of instances', () => {
  it('keep to 120 characters and stay unique', async () => {
    const long = 'x'.repeat(90);
    const plan = await workspace.plan(`${preamble}
matrix:
  dataset: [reviews]
  epsilon: [8]
  method: { ${long}-one: { kind: lora }, ${long}-two: { kind: lora, rank: 2 } }
  seed: [1]
${pipeline.replace(/ {2}comparison:[\s\S]*/, '')}`);
    const ids = plan.nodes.map(({ id }) => id);
    expect(Math.max(...ids.map((id) => id.length))).toBeLessThanOrEqual(120);
    expect(new Set(ids).size).toBe(ids.length);
    expect(new Set(plan.nodes.map(({ slug }) => slug)).size).toBe(ids.length);
    for (const { slug } of plan.nodes) expect(slug).toMatch(/^[a-z0-9-]{1,100}$/);
  });
});

describe('a plan', () => {
  it('holds no number that JSON lacks', async () => {
    const plan = await workspace.plan(`${preamble}
matrix: { epsilon: [none] }
steps:
  first: { uses: finetune, with: { model: base, data: reviews, epsilon: none } }
  second: { uses: finetune, with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}" } }
  third: { uses: finetune, with: { model: base, data: reviews, epsilon: .inf } }
`);
    expect(plan.nodes.map(({ params }) => (params as FinetuneParams).epsilon)).toEqual(['inf', 'inf', 'inf']);
    expect(plan.nodes[1]!.id).toBe('second[epsilon=inf]');
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });
});
