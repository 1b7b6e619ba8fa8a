import { expect, it } from 'vitest';
import { unboundedPending } from '../../cli/plan.ts';
import type { PlanNode } from '../../schemas/plan.ts';

const node = (key: string, cached: boolean | null, kind: string): PlanNode =>
  ({ key, cached, privacy: { dataset: 'people', mechanism: { kind } } }) as unknown as PlanNode;

it('a plan counts trainings without DP that it adds: none that is paid already, equal ones once', () => {
  const nodes = [
    node('paid', true, 'unbounded'),
    node('new', false, 'unbounded'),
    node('new', false, 'unbounded'),
    node('unasked', null, 'unbounded'),
    node('with DP', false, 'poisson-gaussian'),
  ];
  expect(unboundedPending({ nodes }, 'people')).toBe(2);
  expect(unboundedPending({ nodes }, 'others')).toBe(0);
});
