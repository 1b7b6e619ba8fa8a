/** @file The digest that names a plan. */

import { jsonDigest } from './canonical-json.ts';
import { splitOfAccount } from './charges.ts';
import type { Plan } from './plan.ts';

/** sha256 over the plan's canonical JSON without `digest`, `cached`, `before`, `after` and the ledger's budgets. */
export function planDigest(plan: Plan): string {
  const privacy = Object.entries(plan.privacy).map(([name, { experiment, delta, unbounded }]) => {
    const budget = plan.datasets[splitOfAccount(name).dataset]?.privacy?.budget?.epsilon ?? null;
    return [name, { experiment, delta, unbounded, budget }];
  });
  return jsonDigest({
    ...plan,
    digest: undefined,
    nodes: plan.nodes.map((node) => ({ ...node, cached: undefined })),
    privacy: Object.fromEntries(privacy),
  });
}
