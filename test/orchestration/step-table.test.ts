import { expect, it } from 'vitest';
import { stepTable } from '../../workflows/step-table.ts';

it('counts the instances of each step, and tells those that run from those that a child still holds', () => {
  const states = [
    ['generator[seed=1]', 'completed'],
    ['generator[seed=2]', 'running'],
    ['generator[seed=3]', 'running'],
    ['synthetic[seed=1]', 'ready'],
    ['synthetic[seed=2]', 'waiting'],
    ['report', 'failed'],
  ] as const;
  expect(stepTable(states, (id) => id === 'generator[seed=2]')).toMatchInlineSnapshot(`
    "| step | done | running | to do | failed |
    | --- | ---: | ---: | ---: | ---: |
    | generator | 1 | 1 | 1 | 0 |
    | synthetic | 0 | 0 | 2 | 0 |
    | report | 0 | 0 | 0 | 1 |"
  `);
});
