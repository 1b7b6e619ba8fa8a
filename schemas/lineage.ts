/** @file Which nodes of a plan stand behind a node, and what privacy loss they carry. Pure. */

import { chargeNameOf, chargesOf } from './charges.ts';
import type { NodeCharge, Plan, PlanNode } from './plan.ts';

export interface Lineage {
  node(id: string): PlanNode | undefined;
  /** A node and all that its inputs derive from, in plan order. Order without data (`needs`) does not count. */
  behind(id: string): PlanNode[];
  /** The mechanisms whose outputs went into a node, its own included, in plan order. */
  privacyBehind(id: string): { node: PlanNode; privacy: NodeCharge }[];
  /** Names of those charges, each once: what a stored result of the node must have been paid for. */
  chargesBehind(id: string): string[];
}

const known = new WeakMap<Plan['nodes'], Lineage>();

/** Lineage of a plan that no longer changes; made once a plan. */
export function lineageOf({ nodes }: Pick<Plan, 'nodes'>): Lineage {
  let lineage = known.get(nodes);
  if (!lineage) known.set(nodes, (lineage = makeLineage(nodes)));
  return lineage;
}

function makeLineage(all: Plan['nodes']): Lineage {
  const nodes = new Map(all.map((node) => [node.id, node]));
  const order = new Map(all.map((node, index) => [node.id, index]));

  const behind = (id: string): PlanNode[] => {
    const found = new Set<string>();
    const pending = [id];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const node = nodes.get(next);
      if (!node || found.has(next)) continue;
      found.add(next);
      for (const input of Object.values(node.inputs)) if ('nodes' in input) pending.push(...input.nodes);
    }
    return [...found].sort((a, b) => order.get(a)! - order.get(b)!).map((key) => nodes.get(key)!);
  };

  const privacyBehind: Lineage['privacyBehind'] = (id) =>
    behind(id).flatMap((node) => chargesOf(node).map((privacy) => ({ node, privacy })));
  return {
    node: (id) => nodes.get(id),
    behind,
    privacyBehind,
    chargesBehind: (id) => [...new Set(privacyBehind(id).map(({ node, privacy }) => chargeNameOf(node, privacy)))],
  };
}
