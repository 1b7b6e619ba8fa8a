import { afterAll, expect, it } from 'vitest';

import { facetsOf } from '../../schemas/facets.ts';
import { openWorkspace, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const spec = `${preamble}
matrix: { dataset: [reviews, other], epsilon: [3, 8] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: "\${{ matrix.dataset }}", epsilon: "\${{ matrix.epsilon }}", seed: 1 }
  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 20, seed: 1 }
profiles:
  patient: { priority: 5, limits.cpu: 1 }
`;

it('priority and limits change neither plan nor keys', async () => {
  const plain = await workspace.compile(spec);
  const stated = await workspace.compile(spec.replace('steps:', 'priority: 1\nlimits: { cpu: 4 }\nsteps:'));
  expect(plain.scheduling).toEqual({});
  expect(stated.scheduling).toEqual({ priority: 1, limits: { cpu: 4 } });
  expect(stated.plan.nodes.map(({ key }) => key)).toEqual(plain.plan.nodes.map(({ key }) => key));
  expect((await workspace.compile(spec, 'patient')).scheduling).toEqual({ priority: 5, limits: { cpu: 1 } });
});

it.each([
  ['priority: 6', 'SPEC_SCHEMA'],
  ['limits: { cpu: 0 }', 'SPEC_SCHEMA'],
  ['limits: { cup: 1 }', 'SPEC_UNKNOWN_KEY'],
])('%s is told as a fault', async (line, code) => {
  const faults = await workspace.faults(`${spec}${line}\n`);
  expect(faults).toHaveLength(1);
  expect(faults[0]).toContain(code);
});

it('nodes are found by the data and the epsilons behind them', async () => {
  const { plan } = await workspace.compile(spec);
  const facets = facetsOf(plan);
  expect(facets.get('synthetic[dataset=other,epsilon=8]')).toEqual({ datasets: ['other'], epsilons: ['8'] });
  expect(facets.get('generator[dataset=reviews,epsilon=3]')).toEqual({ datasets: ['reviews'], epsilons: ['3'] });
});
