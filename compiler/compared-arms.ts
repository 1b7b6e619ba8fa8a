/** @file What the arms of a comparison must have in common, and what of it may leave. */

import type { PlanNode } from '../schemas/plan.ts';
import type { Epsilon } from '../schemas/step-params.ts';
import type { Instance } from './node-context.ts';

/** Privacy levels among arms, each with the first instance that has it; arms on public data only have none. */
export function levelsOf(arms: readonly [role: string, instances: Instance[]][]): Map<string, string> {
  const shown = new Map<string, string>();
  for (const [role, instances] of arms) {
    for (const { epsilons, node } of instances) {
      const level = epsilons.size === 0 ? undefined : strongest(epsilons);
      if (level !== undefined && !shown.has(String(level))) shown.set(String(level), `${role.slice(5)} (${node.id})`);
    }
  }
  return shown;
}

/** What is compared leaves only if each of its figures may: a waiver of one arm is none for the others. */
export function waiversOf(compared: readonly PlanNode[]): string[] {
  const waivers = new Set(compared.flatMap((node) => node.waivers));
  const waived = (node: PlanNode): boolean => node.waivers.includes('test-metrics');
  if (compared.some((node) => isShut(node) && !waived(node))) waivers.delete('test-metrics');
  return [...waivers].sort();
}

/** Whether a result depends on private records in a way that no epsilon bounds. */
export const isShut = (node: PlanNode): boolean => node.label === 'non-private' && node.sensitivity === 'private';

/** The largest of some epsilons. */
function strongest(epsilons: ReadonlySet<Epsilon>): Epsilon {
  if (epsilons.has('inf')) return 'inf';
  return Math.max(...[...epsilons].filter((epsilon) => epsilon !== 'inf'));
}
