import { describe, expect, test } from 'vitest';

import { mergeEvents, type MechanismEvent } from '../../privacy/accounting/index.ts';
import { directedEpsilon, roughEpsilon } from '../../privacy/accounting/loss-distribution.ts';
import type { Direction } from '../../privacy/accounting/loss-measure.ts';
import { normalCdf } from './normal-distribution.ts';
import { seededRandom } from './seeded-random.ts';

const directions: readonly Direction[] = ['remove', 'add'];

const between = (random: () => number, low: number, high: number): number => low * (high / low) ** random();

function anything(random: () => number): MechanismEvent {
  const kind = random();
  const count = Math.round(between(random, 1, 1e5));
  const samplingProbability = between(random, 1e-7, 1);
  const scale = between(random, 0.02, 50);
  if (kind < 0.5) return { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier: scale, count };
  if (kind < 0.6) return { mechanism: 'gaussian', noiseMultiplier: scale, count };
  if (kind < 0.7) return { mechanism: 'laplace', scale, count };
  if (kind < 0.8) return { mechanism: 'discrete-laplace', scale, count };
  return { mechanism: 'poisson-laplace', samplingProbability, scale, count };
}

/** A law of losses at multiples of a step, from the one at `first` on. */
interface Law {
  first: number;
  masses: number[];
}

const cells = 1500;

/** Losses above the last cell count as that of the last, those far below are dropped: both can only lower delta. */
function clipped({ first, masses }: Law): Law {
  const kept = new Array<number>(Math.max(0, Math.min(masses.length, 2 * cells))).fill(0);
  const from = Math.max(first, -cells);
  masses.forEach((mass, i) => {
    const at = Math.min(first + i - from, cells - from);
    if (at >= 0) kept[at] = (kept[at] ?? 0) + mass;
  });
  return { first: from, masses: kept };
}

function twice({ first, masses }: Law): Law {
  const sums = new Array<number>(2 * masses.length - 1).fill(0);
  masses.forEach((a, i) => {
    if (a > 0) masses.forEach((b, j) => (sums[i + j]! += a * b));
  });
  return clipped({ first: 2 * first, masses: sums });
}

/**
 * A lower bound of the epsilon of 2^doublings steps of Poisson-sampled Gaussian noise: losses are rounded down to a
 * lattice of `cells` steps up to `highest` and convolved term by term. Shares nothing with the accountants.
 */
function leastEpsilon(
  { q, sigma, doublings }: { q: number; sigma: number; doublings: number },
  delta: number,
  direction: Direction,
  highest: number,
): number {
  const step = highest / cells;
  const lossAt = (x: number): number => Math.log(1 - q + q * Math.exp((2 * x - 1) / (2 * sigma * sigma)));
  const [from, to, pieces] = [-9 * sigma, 1 + 9 * sigma, 6000];
  let law: Law = { first: -cells, masses: new Array<number>(2 * cells + 1).fill(0) };
  for (let i = 0; i < pieces; i += 1) {
    const [a, b] = [from + ((to - from) * i) / pieces, from + ((to - from) * (i + 1)) / pieces];
    const without = normalCdf(b / sigma) - normalCdf(a / sigma);
    const with_ = normalCdf((b - 1) / sigma) - normalCdf((a - 1) / sigma);
    const [mass, loss] = direction === 'remove' ? [(1 - q) * without + q * with_, lossAt(a)] : [without, -lossAt(b)];
    const cell = Math.min(cells, Math.floor(loss / step));
    if (cell >= -cells) law.masses[cell + cells]! += Math.max(0, mass);
  }
  for (let i = 0; i < doublings; i += 1) law = twice(law);
  const deltaAt = (epsilon: number): number =>
    law.masses.reduce((sum, mass, i) => {
      const loss = (law.first + i) * step;
      return loss > epsilon ? sum + mass * -Math.expm1(epsilon - loss) : sum;
    }, 0);
  let [low, high] = [0, highest];
  if (deltaAt(low) <= delta) return 0;
  while (high - low > 1e-6 * highest) {
    const middle = (low + high) / 2;
    if (deltaAt(middle) > delta) low = middle;
    else high = middle;
  }
  return low;
}

describe('the figure without a grid that spares the lesser direction its grid', () => {
  test('is above what grids give, which is above the truth, for all mechanisms and orders of magnitude', () => {
    const random = seededRandom(11);
    let compared = 0;
    for (let i = 0; i < 40; i += 1) {
      const events = mergeEvents(Array.from({ length: 1 + Math.floor(3 * random()) }, () => anything(random)));
      const delta = between(random, 1e-15, 1e-1);
      for (const direction of directions) {
        const fine = directedEpsilon(events, delta, direction, 0);
        // Round-off leaves grids nothing to say of some.
        if (!Number.isFinite(fine)) continue;
        compared += 1;
        const name = JSON.stringify({ events, delta, direction });
        expect(roughEpsilon(events, delta, direction), name).toBeGreaterThanOrEqual(fine);
      }
    }
    expect(compared).toBeGreaterThan(70);
  });

  test('is above a lower bound of the truth that shares nothing with it', () => {
    const random = seededRandom(12);
    for (let i = 0; i < 12; i += 1) {
      const q = between(random, 0.01, 0.9);
      const sigma = between(random, 0.4, 3);
      const doublings = Math.floor(4 * random());
      const delta = between(random, 1e-6, 1e-3);
      const count = 2 ** doublings;
      const event: MechanismEvent = {
        mechanism: 'poisson-gaussian',
        samplingProbability: q,
        noiseMultiplier: sigma,
        count,
      };
      for (const direction of directions) {
        const name = JSON.stringify({ event, delta, direction });
        const fine = directedEpsilon([event], delta, direction, 0);
        const least = leastEpsilon({ q, sigma, doublings }, delta, direction, 2 * fine);
        expect(roughEpsilon([event], delta, direction), name).toBeGreaterThan(least);
        // And the lower bound is near the truth, which lies between.
        expect(least, name).toBeLessThanOrEqual(fine);
        expect(least, name).toBeGreaterThan(0.95 * fine);
      }
    }
  });
});
