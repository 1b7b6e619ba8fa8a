import { describe, expect, test } from 'vitest';

import { composedEpsilon, type MechanismEvent } from '../../privacy/accounting/index.ts';
import { pldEpsilon } from '../../privacy/accounting/loss-distribution.ts';
import { exact, gaussianDelta, laplaceDelta, toNumber } from './high-precision.ts';

const deltas = [1e-7, 1e-10, 1e-15];

/** `epsilon` is enough for `delta`, and half a percent less would not be. */
function expectTight(epsilon: number, delta: number, deltaAt: (epsilon: number) => bigint): void {
  expect(toNumber(deltaAt(epsilon))).toBeLessThanOrEqual(delta * (1 + 1e-12));
  if (epsilon > 0) expect(toNumber(deltaAt(epsilon * 0.995))).toBeGreaterThan(delta);
}

test('the quadrature itself: tabulated tails of the normal law', () => {
  // With sigma 1/2 and epsilon 0, delta is P(|Z| < 1).
  expect(toNumber(gaussianDelta(1, 0.5, 1, 0))).toBeCloseTo(0.68268949213708589717, 15);
  // P(Z > 1) - exp(12) P(Z > 5), by the definition with sigma 1/4.
  expect(toNumber(gaussianDelta(1, 0.25, 1, 12))).toBeCloseTo(
    0.15865525393145705141 - 162754.79141900392081 * 2.8665157187919391167e-7,
    14,
  );
  expect(toNumber(laplaceDelta(1, 1, 0.5))).toBeCloseTo(1 - Math.exp(-0.25), 15);
  expect(toNumber(exact(0.1))).toBe(0.1);
});

describe.each(deltas)('against quadrature in 115 digits at delta %d', (delta) => {
  test.each([
    [0.3, 1],
    [0.3, 10],
    [1, 1],
    [4, 1000],
    [50, 1],
    [50, 100_000],
  ])('Gaussian noise %d, %d times: closed form and grid', (sigma, count) => {
    const event: MechanismEvent = { mechanism: 'gaussian', noiseMultiplier: sigma, count };
    const deltaAt = (epsilon: number): bigint => gaussianDelta(1, sigma, count, epsilon);
    expectTight(composedEpsilon([event], delta).epsilon, delta, deltaAt);
    expectTight(pldEpsilon([event], delta), delta, deltaAt);
  });

  test.each([
    [1e-6, 0.3],
    [1e-3, 0.5],
    [0.01, 0.7],
    [0.2, 2],
    [0.5, 50],
    [0.9, 1],
  ])('one step of DP-SGD, q %d, noise %d', (q, sigma) => {
    const event: MechanismEvent = {
      mechanism: 'poisson-gaussian',
      samplingProbability: q,
      noiseMultiplier: sigma,
      count: 1,
    };
    expectTight(composedEpsilon([event], delta).epsilon, delta, (epsilon) => gaussianDelta(q, sigma, 1, epsilon));
  });

  test.each([
    [1, 0.5],
    [1, 10],
    [0.01, 1],
    [0.3, 0.2],
  ])('Laplace noise sampled with q %d, scale %d', (q, scale) => {
    const event: MechanismEvent = { mechanism: 'poisson-laplace', samplingProbability: q, scale, count: 1 };
    expectTight(composedEpsilon([event], delta).epsilon, delta, (epsilon) => laplaceDelta(q, scale, epsilon));
  });
});
