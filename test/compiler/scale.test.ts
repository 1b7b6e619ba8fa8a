import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

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

/** Processor time of this process, so that a busy machine does not count. */
async function planned(seeds: number): Promise<{ nodes: number; seconds: number }> {
  const before = process.cpuUsage();
  const plan = await workspace.plan(spec(seeds));
  const { user, system } = process.cpuUsage(before);
  return { nodes: plan.nodes.length, seconds: (user + system) / 1e6 };
}

it('ten times the instances take about ten times as long', async () => {
  // The first compilation pays for compiled schemas and calibration.
  await planned(2);
  const small = await planned(125);
  const large = await planned(1250);
  console.log(
    `${small.nodes} instances in ${small.seconds.toFixed(2)} s, ${large.nodes} in ${large.seconds.toFixed(2)} s of processor time`,
  );
  expect(large.nodes).toBe(10_002);
  // Quadratic growth would be a factor of 100.
  expect(large.seconds / small.seconds).toBeLessThan(40);
});

/** Peak memory of `epsilonflow plan` in a process of its own, MiB. */
function peakOf(seeds: number): number {
  const file = workspace.write(`${seeds}.yaml`, spec(seeds));
  const entry = join(import.meta.dirname, 'command-process.mjs');
  const { status, stderr } = spawnSync(process.execPath, [entry, 'plan', file, '--json'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    env: {
      ...process.env,
      EPSILONFLOW_HOME: join(workspace.folder, 'state'),
      EPSILONFLOW_LEDGER_URL: `sqlite:${join(workspace.folder, 'ledger', 'ledger.db')}`,
    },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringMatching(/^\d+$/) as string });
  return Number(stderr) / 1024;
}

it('10,000 instances are planned in less than 300 MB, with store and ledger asked and the whole plan printed', () => {
  const [small, large] = [peakOf(125), peakOf(1250)];
  console.log(`Peak memory of a plan: 1,002 instances ${small.toFixed(0)} MiB, 10,002 ${large.toFixed(0)} MiB`);
  expect(large * 1.048576).toBeLessThan(300);
});
