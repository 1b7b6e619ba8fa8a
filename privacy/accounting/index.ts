/** @file Public door of the accountants: what a composition of mechanisms costs. Pure. */

import { mergeEvents, type MechanismEvent } from './mechanism-event.ts';
import { rdpCurve, rdpEpsilon } from './renyi.ts';

export { checkDelta, checkEvent, mergeEvents, type MechanismEvent } from './mechanism-event.ts';
export { rdpCurve, rdpEpsilon, rdpEpsilonAt, rdpOrders, standardOrders } from './renyi.ts';

export type Accountant = 'rdp' | 'pld';

export interface ComposedEpsilon {
  /** An upper bound of the composition's epsilon at delta. */
  epsilon: number;
  /** Which accountant proved it. */
  accountant: Accountant;
}

/**
 * Epsilon at `delta` of all `events` on one dataset, add-or-remove-one-record adjacency.
 * Throws ARGUMENT_INVALID for an event or delta out of range.
 */
export function composedEpsilon(
  events: readonly MechanismEvent[],
  delta: number,
  accountant?: Accountant,
): ComposedEpsilon {
  const merged = mergeEvents(events);
  return { epsilon: rdpEpsilon(rdpCurve(merged), delta), accountant: 'rdp' };
}
