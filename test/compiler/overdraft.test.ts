import { afterAll, describe, expect, it } from 'vitest';

import type { Overdraft } from '../../compiler/index.ts';
import type { PlanChange } from '../../compiler/smaller-plans.ts';
import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

interface Options {
  budget: number;
  epsilons?: string;
  seeds?: number;
}

const spec = ({ budget, epsilons = '[1, 3, 8]', seeds = 4 }: Options): string =>
  `${preamble.replace('{ size: 20000 }', `{ size: 20000, budget: { epsilon: ${budget} } }`)}
matrix:
  epsilon: ${epsilons}
  seed: [${Array.from({ length: seeds }, (_, seed) => seed + 1).join(', ')}]
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  on-real:
    uses: train-classifier
    with: { train: reviews, test: other, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
`;

async function overdraft(options: Options): Promise<Overdraft> {
  const { overdrafts, refusals } = await workspace.compile(spec(options));
  expect(overdrafts).toHaveLength(1);
  expect(refusals.map(({ code }) => code)).toEqual(['BUDGET_REFUSED']);
  return overdrafts[0]!;
}

const fits = async (options: Options): Promise<boolean> =>
  (await workspace.compile(spec(options))).refusals.length === 0;

function change<K extends PlanChange['change']>(found: Overdraft, kind: K): Extract<PlanChange, { change: K }> {
  return found.changes.find((each) => each.change === kind) as Extract<PlanChange, { change: K }>;
}

describe('a matrix that overspends', () => {
  it('is refused by how much, and at the step of the first instance that does not fit', async () => {
    const found = await overdraft({ budget: 9, seeds: 2 });
    expect(found.epsilon! - found.budget).toBe(found.excess);
    expect(found.excess).toBeGreaterThan(0);
    const { plan } = await workspace.compile(spec({ budget: 9, seeds: 2 }));
    expect(found.epsilon).toBe(plan.privacy['reviews']!.experiment);
    const charged = plan.nodes.filter(({ privacy }) => privacy?.dataset === 'reviews');
    const index = charged.findIndex(({ id }) => id === found.instance);
    expect(found.position).toEqual(charged[index]!.position);
    // All before it would fit: a plan of the first epsilons alone.
    expect(found.instance).toMatch(/^generator\[epsilon=8,seed=\d\]$/);
  });

  it('fits after each change that is offered, and would not after less of it', async () => {
    const options = { budget: 22, epsilons: '[1, 3, 8]', seeds: 4 };
    const found = await overdraft(options);
    expect(found.changes.map(({ change: kind }) => kind)).toEqual(['lower-epsilon', 'fewer-seeds', 'fewer-epsilons']);

    const { epsilons } = change(found, 'lower-epsilon');
    expect(epsilons.map(({ from }) => from)).toEqual([1, 3, 8]);
    expect(await fits({ ...options, epsilons: `[${epsilons.map(({ to }) => to).join(', ')}]` })).toBe(true);
    expect(await fits({ ...options, epsilons: `[${epsilons.map(({ to }) => to * 1.02).join(', ')}]` })).toBe(false);

    const { keep, drop } = change(found, 'fewer-seeds');
    expect([...keep, ...drop]).toEqual([1, 2, 3, 4]);
    expect(await fits({ ...options, seeds: keep.length })).toBe(true);
    expect(await fits({ ...options, seeds: keep.length + 1 })).toBe(false);

    const { drop: without } = change(found, 'fewer-epsilons');
    const kept = [1, 3, 8].filter((epsilon) => !without.includes(epsilon));
    const smaller = { ...options, epsilons: `[${kept.join(', ')}]` };
    expect(await fits(smaller)).toBe(true);
    const { plan } = await workspace.compile(spec(smaller));
    expect(plan.privacy['reviews']!.experiment).toBe(change(found, 'fewer-epsilons').epsilon);
  });

  it('loses the smallest epsilon that is enough', async () => {
    const options = { budget: 13, epsilons: '[1, 3, 8]', seeds: 1 };
    const { plan } = await workspace.compile(spec(options));
    const found = await overdraft({ ...options, budget: plan.privacy['reviews']!.experiment - 0.01 });
    expect(change(found, 'fewer-epsilons').drop).toEqual([1]);
  });

  it('without DP fits only without that epsilon', async () => {
    const found = await overdraft({ budget: 40, epsilons: '[1, .inf]', seeds: 2 });
    expect(found).toMatchObject({ epsilon: null, excess: null });
    expect(found.instance).toBe('generator[epsilon=inf,seed=1]');
    expect(found.changes).toMatchObject([{ change: 'fewer-epsilons', axis: 'epsilon', drop: ['inf'] }]);
  });

  it('that nothing can shrink enough says so', async () => {
    const { refusals } = await workspace.compile(spec({ budget: 1e-9, epsilons: '[3]', seeds: 1 }));
    expect(refusals[0]!.hint).toContain('No smaller plan of this matrix fits');
  });
});

it('of ten thousand instances is judged a few times only', async () => {
  await workspace.compile(spec({ budget: 1e6, seeds: 2 }));
  const timed = async (options: Options): Promise<{ seconds: number; found: Overdraft | undefined }> => {
    const start = process.cpuUsage();
    const { overdrafts, plan } = await workspace.compile(spec(options));
    expect(plan.nodes.length).toBe(10_002);
    return { seconds: process.cpuUsage(start).user / 1e6, found: overdrafts[0] };
  };
  const held = await timed({ budget: 1e6, seeds: 1667 });
  const refused = await timed({ budget: 60, seeds: 1667 });
  console.log(
    `10,002 instances: ${held.seconds.toFixed(1)} s of the processor admitted, ${refused.seconds.toFixed(1)} s refused`,
  );
  expect(refused.found!.changes.length).toBeGreaterThan(0);
  // The rest is room for a busy machine.
  expect(refused.seconds).toBeLessThan(held.seconds + 20);
});
