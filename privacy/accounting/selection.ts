/**
 * @file Private selection: run a mechanism a random number of times and release the best result only (Papernot and
 * Steinke 2022). By Renyi divergence; the number of runs must not be told, nor depend on the data.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { checkDelta, mergeEvents, type MechanismEvent } from './mechanism-event.ts';
import { rdpCurve, rdpEpsilon, rdpOrders } from './renyi.ts';

/** Law of the number of runs. */
export type Repetitions =
  /** May be 0 runs, and then there is no result. `mean` at least 1. */
  | { law: 'poisson'; mean: number }
  /**
   * At least one run. `shape` eta above -1: 1 is the geometric law, 0 the logarithmic one; `gamma` in (0, 1]: the
   * smaller, the more runs.
   */
  | { law: 'truncated-negative-binomial'; shape: number; gamma: number };

const invalid = (message: string): EpsilonflowError =>
  new EpsilonflowError('ARGUMENT_INVALID', message, {
    hint: 'Selection takes a mean number of runs of at least 1 and a shape above -1.',
  });

/** E K of the law with gamma = exp(-depth): eta (1 - gamma) / (gamma (1 - gamma^eta)), and its limits. */
function meanOf(shape: number, depth: number): number {
  if (depth === 0) return 1;
  const odds = Math.expm1(depth);
  if (shape === 0) return odds / depth;
  return (shape * odds) / -Math.expm1(-shape * depth);
}

/** Expected number of runs. */
export const meanRepetitions = (repetitions: Repetitions): number =>
  repetitions.law === 'poisson' ? repetitions.mean : meanOf(repetitions.shape, -Math.log(repetitions.gamma));

/**
 * The truncated negative binomial law of this shape and a mean number of runs of at least `mean`, hardly more.
 * Throws ARGUMENT_INVALID for a shape of -1 or less or a mean below 1.
 */
export function repetitionsWithMean(shape: number, mean: number): Repetitions {
  if (!(shape > -1 && Number.isFinite(shape))) throw invalid(`The shape must be above -1, not ${shape}.`);
  if (!(mean >= 1 && mean <= 1e9)) throw invalid(`The mean number of runs must lie in [1, 1e9], not ${mean}.`);
  if (mean === 1) return { law: 'truncated-negative-binomial', shape, gamma: 1 };
  let low = 0;
  let high = 1;
  while (meanOf(shape, high) < mean) high *= 2;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) break;
    if (meanOf(shape, middle) < mean) low = middle;
    else high = middle;
  }
  return { law: 'truncated-negative-binomial', shape, gamma: Math.exp(-high) };
}

function check(repetitions: Repetitions): void {
  if (repetitions.law === 'poisson') {
    // Below 1 the theorem's logarithm is negative and the bound says more than it can.
    if (!(repetitions.mean >= 1 && repetitions.mean <= 1e9)) {
      throw invalid(`The mean number of runs must lie in [1, 1e9], not ${repetitions.mean}.`);
    }
    return;
  }
  const { shape, gamma } = repetitions;
  if (!(shape > -1 && Number.isFinite(shape))) throw invalid(`The shape must be above -1, not ${shape}.`);
  if (!(gamma > 0 && gamma <= 1)) throw invalid(`gamma must lie in (0, 1], not ${gamma}.`);
}

/** Least delta at `epsilon` that some order proves; the inverse of `rdpEpsilon`. */
function leastDelta(curve: Float64Array, orders: readonly number[], epsilon: number): number {
  let best = 0;
  orders.forEach((order, i) => {
    const divergence = curve[i]!;
    // Bretagnolle and Huber on total variation; Canonne, Kamath, Steinke 2020, proposition 12.
    const variation = 0.5 * Math.log(-Math.expm1(-divergence));
    const hockeyStick = (order - 1) * (divergence - epsilon + Math.log1p(-1 / order)) - Math.log(order);
    best = Math.min(best, variation, hockeyStick);
  });
  return Math.exp(best);
}

/**
 * Renyi divergence bound of selecting the best of several runs of one mechanism, at each of `orders`, from the curve of
 * one run at the same orders.
 *
 * Truncated negative binomial (theorem 2): for any order l', with the divergence e' of one run there,
 *   e(l) + (1 + eta) (1 - 1/l') e' + (1 + eta) log(1/gamma) / l' + log(E K) / (l - 1).
 * Poisson (theorem 6): with one run (log(1 + 1/(l - 1)), d)-DP,
 *   e(l) + mean d + log(mean) / (l - 1).
 */
export function selectionCurve(
  curve: Float64Array,
  repetitions: Repetitions,
  orders: readonly number[] = rdpOrders,
): Float64Array {
  check(repetitions);
  const logMean = Math.log(meanRepetitions(repetitions));
  if (repetitions.law === 'poisson') {
    return Float64Array.from(orders, (order, i) => {
      const delta = leastDelta(curve, orders, Math.log1p(1 / (order - 1)));
      return curve[i]! + repetitions.mean * delta + logMean / (order - 1);
    });
  }
  const { shape, gamma } = repetitions;
  const depth = -Math.log(gamma);
  let extra = Infinity;
  orders.forEach((order, i) => {
    extra = Math.min(extra, (1 + shape) * ((1 - 1 / order) * curve[i]! + depth / order));
  });
  return Float64Array.from(orders, (order, i) => curve[i]! + extra + logMean / (order - 1));
}

/**
 * Epsilon at `delta` of releasing only the best result of a random number of runs of `events`.
 * Throws ARGUMENT_INVALID for arguments out of range.
 */
export function selectionEpsilon(events: readonly MechanismEvent[], repetitions: Repetitions, delta: number): number {
  checkDelta(delta);
  check(repetitions);
  const merged = mergeEvents(events);
  // What reads nothing selects from nothing.
  if (merged.length === 0) return 0;
  return rdpEpsilon(selectionCurve(rdpCurve(merged), repetitions), delta);
}
