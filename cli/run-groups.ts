/** @file How far the steps of a run are: instances by state, a line a step. Pure. */

import type { Plan } from '../schemas/plan.ts';
import type { NodeSummary } from '../tracking/run-summary.ts';

/** Instances of a step; those that are in no other state wait. */
export interface StepGroup {
  step: string;
  total: number;
  done: number;
  running: number;
  failed: number;
  /** Skipped or cancelled. */
  leftOut: number;
}

const counted = {
  completed: 'done',
  running: 'running',
  failed: 'failed',
  skipped: 'leftOut',
  cancelled: 'leftOut',
} as const;

/** In the order of the plan. */
export function groupsOf(
  { nodes: planned }: { nodes: readonly Pick<Plan['nodes'][number], 'id' | 'step'>[] },
  nodes: ReadonlyMap<string, Pick<NodeSummary, 'status'>>,
): StepGroup[] {
  const groups = new Map<string, StepGroup>();
  for (const { id, step } of planned) {
    let group = groups.get(step);
    if (!group) groups.set(step, (group = { step, total: 0, done: 0, running: 0, failed: 0, leftOut: 0 }));
    group.total += 1;
    const status = nodes.get(id)?.status ?? 'waiting';
    if (status !== 'waiting') group[counted[status]] += 1;
  }
  return [...groups.values()];
}

export const waitingOf = ({ total, done, running, failed, leftOut }: StepGroup): number =>
  total - done - running - failed - leftOut;

/** Of all steps together. */
export function sumOf(groups: readonly StepGroup[]): StepGroup {
  const sum: StepGroup = { step: '', total: 0, done: 0, running: 0, failed: 0, leftOut: 0 };
  for (const group of groups) {
    for (const state of ['total', 'done', 'running', 'failed', 'leftOut'] as const) sum[state] += group[state];
  }
  return sum;
}
