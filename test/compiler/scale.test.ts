import { afterAll, expect, it } from 'vitest';

import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const spec = (seeds: number): string => `${preamble}
matrix:
  epsilon: [1, 8]
  seed: [${Array.from({ length: seeds }, (_, seed) => seed).join(', ')}]
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 100, seed: "\${{ matrix.seed }}" }
  on-synthetic:
    uses: train-classifier
    with: { train: "\${{ steps.synthetic }}", test: reviews, seed: "\${{ matrix.seed }}" }
  on-real:
    uses: train-classifier
    with: { train: reviews, test: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  comparison:
    uses: compare
    with: { arms: { real: "\${{ steps.on-real }}", synthetic: "\${{ steps.on-synthetic }}" }, over: [seed] }
`;

it('ten times the instances take about ten times as long', async () => {
  // The first compilation pays for compiled schemas and calibration.
  await workspace.plan(spec(2));
  const timed = async (seeds: number): Promise<{ nodes: number; seconds: number }> => {
    const start = performance.now();
    const plan = await workspace.plan(spec(seeds));
    return { nodes: plan.nodes.length, seconds: (performance.now() - start) / 1000 };
  };
  const small = await timed(125);
  const large = await timed(1250);
  console.log(
    `${small.nodes} instances in ${small.seconds.toFixed(2)} s, ${large.nodes} in ${large.seconds.toFixed(2)} s`,
  );
  expect(large.nodes).toBe(10_002);
  // Quadratic growth would be a factor of 100; the rest is room for a busy machine.
  expect(large.seconds / small.seconds).toBeLessThan(40);
});
