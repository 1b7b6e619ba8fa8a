/** @file Cumulant functions of composed loss laws, and the exponential tilts that they lead to. */

import type { LossGrid, LossSketch } from './loss-grid.ts';

export interface Cumulants {
  /** log E exp(t L) of the whole composition. */
  value: number;
  /** Its derivatives in t: mean and variance of L under the law tilted by t. */
  mean: number;
  variance: number;
}

/** Of independent sums: each sketch counts `count` times. Any real t. */
export function cumulants(sketches: readonly LossSketch[], t: number): Cumulants {
  const total = { value: 0, mean: 0, variance: 0 };
  for (const { count, masses, losses } of sketches) {
    let top = -Infinity;
    for (let i = 0; i < losses.length; i += 1) {
      const exponent = t * losses[i]!;
      if (exponent > top && masses[i]! > 0) top = exponent;
    }
    let sum = 0;
    let first = 0;
    let second = 0;
    for (let i = 0; i < losses.length; i += 1) {
      const loss = losses[i]!;
      const weight = masses[i]! * Math.exp(t * loss - top);
      sum += weight;
      first += weight * loss;
      second += weight * loss * loss;
    }
    const mean = first / sum;
    total.value += count * (top + Math.log(sum));
    total.mean += count * mean;
    total.variance += count * Math.max(0, second / sum - mean * mean);
  }
  return total;
}

/** log E exp(t L) of one application on a grid; infinite losses left out. */
export function gridCumulant({ masses, first, step }: LossGrid, t: number): number {
  const last = first + masses.length - 1;
  const top = Math.max(t * first * step, t * last * step);
  let sum = 0;
  for (let i = 0; i < masses.length; i += 1) {
    if (masses[i] !== 0) sum += masses[i]! * Math.exp(t * (first + i) * step - top);
  }
  return top + Math.log(sum);
}

/** The t > 0, at most `highest`, where `increasing` turns positive; to 0.1 %, from above. */
function solve(increasing: (t: number) => number, highest = 1e18): number {
  let low = -Infinity;
  let high = Infinity;
  let probe = Math.min(1, highest);
  // Outward by growing factors until both sides are known, then halving the logarithm.
  for (let factor = 4; high === Infinity || low === -Infinity; factor *= 2) {
    if (increasing(probe) > 0) {
      high = Math.log(probe);
      if (high < -60) break;
      if (low === -Infinity) probe /= factor;
    } else {
      low = Math.log(probe);
      if (probe >= highest) return highest;
      if (high === Infinity) probe = Math.min(highest, probe * factor);
    }
  }
  low = Math.max(low, -80);
  while (high - low > 1e-3) {
    const middle = (low + high) / 2;
    if (increasing(Math.exp(middle)) > 0) high = middle;
    else low = middle;
  }
  return Math.exp(high);
}

/**
 * Where losses are bounded, tilts that would look for rarer events than there are grow without end; beyond this many
 * times the information asked for they gain nothing.
 */
const MOST_INFORMATION = 100;

/**
 * The t of the saddle point where delta is about exp(-information): exp(K - t K') / (t (1 + t) sqrt(2 pi K'')), and
 * K' is about epsilon.
 */
export const saddleTilt = (sketches: readonly LossSketch[], information: number): number =>
  solve((t) => {
    const { value, mean, variance } = cumulants(sketches, t);
    const spread = Math.log(t * (1 + t)) + 0.5 * Math.log(2 * Math.PI * variance);
    const found = t * mean - value + Math.max(0, spread);
    return Math.max(found - information, t * mean - MOST_INFORMATION * information);
  });

/** The t >= 0 whose tilted law has this mean; 0 when the untilted mean is above it. */
export function meanTilt(sketches: readonly LossSketch[], mean: number, information: number): number {
  if (cumulants(sketches, 0).mean >= mean) return 0;
  return solve((t) => {
    const tilted = cumulants(sketches, t).mean;
    return Math.max(tilted - mean, t * tilted - MOST_INFORMATION * information);
  });
}

/**
 * A b with P(L > b) <= exp(-information) under the law tilted by t, or P(L < b) for `side` -1 (Chernoff), and the tilt
 * that proves it, at most `furthest` from t.
 */
export function tiltedEnd(
  sketches: readonly LossSketch[],
  t: number,
  side: 1 | -1,
  information: number,
  furthest: number,
): { end: number; tilt: number } {
  const centre = cumulants(sketches, t).value;
  const further = solve((s) => {
    const { value, mean } = cumulants(sketches, t + side * s);
    return side * s * mean - (value - centre) - information;
  }, furthest);
  const { value } = cumulants(sketches, t + side * further);
  return { end: (side * (value - centre + information)) / further, tilt: t + side * further };
}
