import { afterAll, expect, it } from 'vitest';

import type { FinetuneParams } from '../../schemas/step-params.ts';
import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const spec = `${preamble}
matrix:
  dataset: [reviews, other]
  epsilon: [3, 8]
  seed: [1, 2]
  exclude: [{ dataset: other, epsilon: 3 }]
steps:
  generator:
    uses: finetune
    with: { model: base, data: "\${{ matrix.dataset }}", epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
profiles:
  small: { matrix.seed: [1], matrix.dataset: [reviews], steps.generator.steps: 3 }
  low-rank: { steps.generator.method: { kind: lora, rank: 1 }, failure: fail-fast, datasets.other.privacy.size: 60000 }
  wrong: { steps.generator.batch: many }
`;

it('a profile replaces axes and parameters, and is part of the digest', async () => {
  const whole = await workspace.plan(spec);
  const small = await workspace.plan(spec, 'small');
  expect(whole.nodes).toHaveLength(6);
  expect(small.nodes.map(({ id }) => id)).toEqual([
    'generator[dataset=reviews,epsilon=3,seed=1]',
    'generator[dataset=reviews,epsilon=8,seed=1]',
  ]);
  expect((small.nodes[0]!.params as FinetuneParams).steps).toBe(3);
  expect(small.spec.profile).toBe('small');
  expect(small.digest).not.toBe(whole.digest);
});

it('a profile reaches nested values, datasets and settings of the whole', async () => {
  const plan = await workspace.plan(spec, 'low-rank');
  expect((plan.nodes[0]!.params as FinetuneParams).method).toMatchObject({ rank: 1, alpha: 16 });
  expect(plan.failure).toBe('fail-fast');
  expect(plan.datasets['other']!.privacy!.size).toBe(60000);
});

it('a wrong value of a profile is reported where it stands, when the profile is used', async () => {
  expect(await workspace.faults(spec)).toEqual([]);
  expect(await workspace.faults(spec, 'wrong')).toEqual([
    '29:35 SPEC_SCHEMA "batch" must be a whole number of at least 1, not "many"',
  ]);
});
