/** @file Why instances of a plan must run, told against the plans of earlier runs of the same experiment. */

import { type Compiled, isConsequence, type Miss, missesOf, missText } from '../compiler/index.ts';
import type { Plan } from '../schemas/plan.ts';
import { openStore } from '../store/index.ts';
import { listRuns } from '../tracking/runs.ts';

export { missText };

/** Nodes of earlier plans that are looked through: plans are held in memory whole. */
const MOST_NODES = 10_000;

/** By node id, for the nodes without a result. */
export async function findMisses({ plan, placeOf }: Compiled): Promise<Map<string, Miss>> {
  // Runs again because someone asked for it.
  if (plan.reruns !== undefined) return new Map();
  if (plan.nodes.every(({ cached }) => cached !== false)) return new Map();
  const store = openStore();
  const looked = new Map<string, Promise<boolean>>();
  const isThere = (key: string): Promise<boolean> => {
    const found = looked.get(key) ?? store.lookup(key).then((artifact) => artifact !== null);
    looked.set(key, found);
    return found;
  };
  return missesOf(plan, await earlierPlans(plan.name), isThere, placeOf);
}

async function earlierPlans(name: string): Promise<Plan[]> {
  const store = openStore();
  const runs = listRuns().filter(({ record }) => record.name === name);
  const plans: Plan[] = [];
  let nodes = 0;
  for (const digest of new Set(runs.map(({ record }) => record.planDigest))) {
    const plan = await store.loadPlan(digest).catch(() => null);
    if (plan === null) continue;
    plans.push(plan);
    nodes += plan.nodes.length;
    if (nodes >= MOST_NODES) break;
  }
  return plans;
}

/** Reasons that are shown for each step. */
const MOST_REASONS = 3;

/** What changed, step by step; nothing of steps that never ran or only follow others. */
export function missLines({ nodes }: Plan, misses: ReadonlyMap<string, Miss>): string[] {
  const reasons = new Map<string, Map<string, number>>();
  for (const { id, step } of nodes) {
    const miss = misses.get(id);
    if (miss === undefined || miss.nearest === null || isConsequence(miss)) continue;
    const ofStep = reasons.get(step) ?? new Map<string, number>();
    reasons.set(step, ofStep.set(missText(miss), (ofStep.get(missText(miss)) ?? 0) + 1));
  }
  return [...reasons].flatMap(([step, ofStep]) => {
    const lines = [...ofStep].map(
      ([reason, count]) => `  ${step}${count > 1 ? ` (${count} instances)` : ''}: ${reason}`,
    );
    const more = lines.length - MOST_REASONS;
    return more > 0 ? [...lines.slice(0, MOST_REASONS), `  ${step}: ... and ${more} more changes`] : lines;
  });
}
