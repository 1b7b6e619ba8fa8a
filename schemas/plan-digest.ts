/** @file The digest that names a plan. */

import { AlikeMappings, canonicalJson, TextDigest } from './canonical-json.ts';
import { splitOfAccount } from './charges.ts';
import type { Plan, PlanNode } from './plan.ts';

/** sha256 over the plan's canonical JSON without `digest`, `cached`, `before`, `after` and the ledger's budgets. */
export function planDigest(plan: Plan): string {
  const privacy = Object.entries(plan.privacy).map(([name, { experiment, delta, unbounded }]) => {
    const budget = plan.datasets[splitOfAccount(name).dataset]?.privacy?.budget?.epsilon ?? null;
    return [name, { experiment, delta, unbounded, budget }];
  });
  const content: Record<string, unknown> = { ...plan, digest: undefined, privacy: Object.fromEntries(privacy) };
  const digest = new TextDigest();
  let before = '{';
  for (const name of Object.keys(content).sort()) {
    if (content[name] === undefined) continue;
    digest.add(`${before}"${name}":`);
    if (name === 'nodes') addNodes(plan.nodes, digest);
    else digest.add(canonicalJson(content[name]));
    before = ',';
  }
  digest.add('}');
  return digest.hex();
}

/** Most of a plan: one by one, and what they share once. */
function addNodes(nodes: readonly PlanNode[], digest: TextDigest): void {
  const [shared, params] = [new AlikeMappings(), new AlikeMappings()];
  const valueOf = (name: string, value: unknown): string | undefined => {
    if (name === 'cached') return undefined;
    if (name === 'params') return params.textOf(value as object);
    return isShared.has(name) ? shared.valueOf(value) : value === undefined ? undefined : canonicalJson(value);
  };
  let before = '[';
  for (const node of nodes) {
    digest.add(before);
    digest.add(shared.textOf(node, valueOf));
    before = ',';
  }
  digest.add(before === '[' ? '[]' : ']');
}

/** What nodes of one step, or of one mechanism, have in common as the same object. */
const isShared: ReadonlySet<string> = new Set(['position', 'privacy', 'release']);
