/** @file Public door of the accountants: what a composition of mechanisms costs. Pure. */

import { combinedNoise, gaussianEpsilon } from './gaussian.ts';
import { pldEpsilon } from './loss-distribution.ts';
import { checkDelta, mergeEvents, type MechanismEvent } from './mechanism-event.ts';
import { rdpCurve, rdpEpsilon } from './renyi.ts';

export { checkDelta, checkEvent, mergeEvents, type MechanismEvent } from './mechanism-event.ts';
export { rdpCurve, rdpEpsilon, rdpEpsilonAt, standardOrders } from './renyi.ts';
export { repetitionsWithMean, selectionEpsilon, type Repetitions } from './selection.ts';

export type Accountant = 'rdp' | 'pld';

export interface ComposedEpsilon {
  /** An upper bound of the composition's epsilon at delta. */
  epsilon: number;
  /** Which accountant proved it. */
  accountant: Accountant;
}

const known = new Map<string, ComposedEpsilon>();
const CACHE_SIZE = 4096;

/**
 * Epsilon at `delta` of all `events` on one dataset, add-or-remove-one-record adjacency. By privacy-loss distributions
 * (in closed form for Gaussian noise alone) or by Renyi divergence, whichever is smaller; `accountant` asks for one.
 * Where round-off leaves privacy-loss distributions nothing to say, Renyi divergence answers and is named.
 * Throws ARGUMENT_INVALID for an event or delta out of range.
 */
export function composedEpsilon(
  events: readonly MechanismEvent[],
  delta: number,
  accountant?: Accountant,
): ComposedEpsilon {
  checkDelta(delta);
  const merged = mergeEvents(events);
  if (merged.length === 0) return { epsilon: 0, accountant: accountant ?? 'rdp' };
  const key = JSON.stringify([merged, delta, accountant]);
  let result = known.get(key);
  if (result === undefined) {
    result = compute(merged, delta, accountant);
    if (known.size >= CACHE_SIZE) known.delete(known.keys().next().value!);
    known.set(key, result);
  }
  return { ...result };
}

/** Sum of the largest losses that there are: pure DP adds up. Infinity where losses have no bound. */
const largestLoss = (events: readonly MechanismEvent[]): number =>
  events.reduce((sum, event) => {
    const pure = event.mechanism === 'laplace' || event.mechanism === 'discrete-laplace';
    return sum + (pure ? event.count / event.scale : Infinity);
  }, 0);

function compute(merged: MechanismEvent[], delta: number, accountant: Accountant | undefined): ComposedEpsilon {
  const renyi = (): ComposedEpsilon => ({ epsilon: rdpEpsilon(rdpCurve(merged), delta), accountant: 'rdp' });
  if (accountant === 'rdp') return renyi();
  const noise = combinedNoise(merged);
  if (noise !== null) return { epsilon: gaussianEpsilon(noise, delta), accountant: 'pld' };
  const exact: ComposedEpsilon = {
    epsilon: Math.min(pldEpsilon(merged, delta), largestLoss(merged)),
    accountant: 'pld',
  };
  if (accountant === 'pld' && Number.isFinite(exact.epsilon)) return exact;
  const bound = renyi();
  return exact.epsilon <= bound.epsilon ? exact : bound;
}
