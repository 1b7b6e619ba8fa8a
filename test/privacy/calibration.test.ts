import { expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier, calibrateSamplingProbability, calibrateSteps } from '../../privacy/calibration.ts';

const spent = (samplingProbability: number, noiseMultiplier: number, count: number): number =>
  composedEpsilon([{ mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count }], 1e-6).epsilon;

test.each([
  [3, 0.017, 600],
  [8, 0.017, 600],
  [0.05, 0.001, 5000],
  [1, 1, 50],
  [200, 0.05, 100],
])('noise for epsilon %d at q %d and %d steps keeps within it, and hardly less would not', (target, q, steps) => {
  const { noiseMultiplier, epsilon } = calibrateNoiseMultiplier({
    targetEpsilon: target,
    delta: 1e-6,
    samplingProbability: q,
    steps,
  });
  expect(epsilon).toBeLessThanOrEqual(target);
  expect(epsilon).toBe(spent(q, noiseMultiplier, steps));
  expect(spent(q, noiseMultiplier * 0.999, steps)).toBeGreaterThan(target);
});

test('as many steps as fit, and not one more', () => {
  const { steps, epsilon } = calibrateSteps({
    targetEpsilon: 2,
    delta: 1e-6,
    samplingProbability: 0.01,
    noiseMultiplier: 1,
  });
  expect(epsilon).toBeLessThanOrEqual(2);
  expect(spent(0.01, 1, steps + 1)).toBeGreaterThan(2);
  const none = calibrateSteps({ targetEpsilon: 0.1, delta: 1e-6, samplingProbability: 1, noiseMultiplier: 1 });
  expect(none).toMatchObject({ steps: 0, epsilon: 0 });
});

test('the greatest sampling probability that fits', () => {
  const found = calibrateSamplingProbability({ targetEpsilon: 2, delta: 1e-6, noiseMultiplier: 1, steps: 1000 });
  expect(found.epsilon).toBeLessThanOrEqual(2);
  expect(spent(found.samplingProbability * 1.001, 1, 1000)).toBeGreaterThan(2);
});

test('a target that no noise reaches is refused with its reason', () => {
  const impossible = { targetEpsilon: 1e-9, delta: 1e-15, samplingProbability: 1, steps: 1e6 };
  expect(() => calibrateNoiseMultiplier(impossible)).toThrow(/No noise multiplier in range reaches epsilon 1e-9/);
  expect(() => calibrateNoiseMultiplier({ ...impossible, targetEpsilon: 0 })).toThrow(/must be positive/);
});
