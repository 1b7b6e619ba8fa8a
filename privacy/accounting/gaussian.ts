/** @file Exact epsilon of composed Gaussian mechanisms (Balle and Wang 2018, theorem 8). */

import type { MechanismEvent } from './mechanism-event.ts';
import { logNormalTail, millsRatio } from './special-functions.ts';

/** One Gaussian mechanism equal to the composition of all; null when some event is of another kind or there is none. */
export function combinedNoise(events: readonly MechanismEvent[]): number | null {
  if (events.length === 0) return null;
  let precision = 0;
  for (const event of events) {
    if (event.mechanism !== 'gaussian') return null;
    precision += event.count / event.noiseMultiplier ** 2;
  }
  return 1 / Math.sqrt(precision);
}

/**
 * log of an upper bound of delta(epsilon) where epsilon = mu a + mu^2 / 2, mu = 1 / noiseMultiplier:
 * P(Z > a) - exp(epsilon) P(Z > a + mu) = phi(a) (R(a) - R(a + mu)) with Mills' ratio R.
 */
function logDelta(a: number, mu: number): number {
  // Nothing is subtracted where delta is near 1: the difference would overflow, and above is safe.
  if (a < -30) return logNormalTail(a);
  const ratio = millsRatio(a);
  const roundOff = 2e-13;
  const difference = Math.max(0, ratio - millsRatio(a + mu)) + roundOff * ratio;
  return Math.log(difference) - (a * a) / 2 - 0.5 * Math.log(2 * Math.PI);
}

/** Least epsilon >= 0 of the Gaussian mechanism at `delta`, from above: error below 1e-11, relative to delta 1e-12. */
export function gaussianEpsilon(noiseMultiplier: number, delta: number): number {
  const mu = 1 / noiseMultiplier;
  const target = Math.log(delta);
  let low = -mu / 2;
  if (logDelta(low, mu) <= target) return 0;
  let high = Math.max(1, low + 1);
  while (logDelta(high, mu) > target) high += Math.max(1, Math.abs(high));
  for (let i = 0; i < 200 && high - low > 1e-15 * Math.max(1, Math.abs(high)); i += 1) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (logDelta(middle, mu) > target) low = middle;
    else high = middle;
  }
  return Math.max(0, mu * high + (mu * mu) / 2);
}
