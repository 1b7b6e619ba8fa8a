/** @file Which parameters of a step its result depends on: these its content key holds. */

import type { PlanNode } from '../schemas/plan.ts';

/**
 * `memory` changes sums in their last bits at most, and what is repeated with another has noise of its own;
 * `checkpoint` says only how much a lost process repeats. `training` and `generation` are those of an audit's inputs, whose
 * keys stand for them.
 */
const withoutEffect: readonly string[] = ['memory', 'checkpoint', 'training', 'generation'];

/** Whether a parameter is keyed, by its name. Settings of DP training are read only where there is a mechanism. */
export function keyedParameters({ privacy }: Pick<PlanNode, 'privacy'>): (name: string) => boolean {
  const withoutDp = privacy === undefined || privacy.mechanism.kind === 'unbounded';
  return (name) => !withoutEffect.includes(name) && !(withoutDp && name === 'dp');
}
