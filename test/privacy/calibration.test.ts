import { describe, expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier, calibrateSamplingProbability, calibrateSteps } from '../../privacy/calibration.ts';
import { seededRandom } from './seeded-random.ts';

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
  const many = calibrateSteps({ targetEpsilon: 5, delta: 1e-6, samplingProbability: 1e-6, noiseMultiplier: 50 });
  expect(many.steps).toBe(1e8);
  const none = calibrateSteps({ targetEpsilon: 0.1, delta: 1e-6, samplingProbability: 1, noiseMultiplier: 1 });
  expect(none).toMatchObject({ steps: 0, epsilon: 0 });
});

test('the greatest sampling probability that fits', () => {
  const found = calibrateSamplingProbability({ targetEpsilon: 2, delta: 1e-6, noiseMultiplier: 1, steps: 1000 });
  expect(found.epsilon).toBeLessThanOrEqual(2);
  expect(spent(found.samplingProbability * 1.001, 1, 1000)).toBeGreaterThan(2);
});

test('noise at the end of the range has a finite epsilon', () => {
  const request = { targetEpsilon: 384, delta: 1.7e-7, samplingProbability: 0.15, steps: 1 };
  const { noiseMultiplier, epsilon } = calibrateNoiseMultiplier(request);
  expect(noiseMultiplier).toBeGreaterThanOrEqual(0.05);
  expect(epsilon).toBeLessThanOrEqual(384);
});

test('any sampling probability will do where noise is large enough', () => {
  const found = calibrateSamplingProbability({ targetEpsilon: 5, delta: 1e-6, noiseMultiplier: 50, steps: 10 });
  expect(found.samplingProbability).toBe(1);
});

describe('over a wide range', () => {
  const random = seededRandom(20);
  const between = (low: number, high: number): number => low * (high / low) ** random();
  const problems = Array.from({ length: 6 }, () => ({
    samplingProbability: between(1e-5, 1),
    steps: Math.round(between(1, 1e5)),
    noiseMultiplier: between(0.3, 50),
    targetEpsilon: between(0.01, 1000),
    delta: between(1e-15, 1e-3),
    accountant: random() < 0.3 ? ('rdp' as const) : undefined,
  }));

  test.each(problems)('every answer keeps its target, rounded to the safe side: %j', (problem) => {
    const { samplingProbability, steps, noiseMultiplier, targetEpsilon, delta, accountant } = problem;
    const epsilonOf = (q: number, sigma: number, count: number): number =>
      composedEpsilon(
        [{ mechanism: 'poisson-gaussian', samplingProbability: q, noiseMultiplier: sigma, count }],
        delta,
        accountant,
      ).epsilon;
    const sixDigits = (value: number): void => expect(Number(value.toPrecision(6))).toBe(value);

    const noise = calibrateNoiseMultiplier(problem);
    sixDigits(noise.noiseMultiplier);
    expect(noise.epsilon).toBe(epsilonOf(samplingProbability, noise.noiseMultiplier, steps));
    expect(noise.epsilon).toBeLessThanOrEqual(targetEpsilon);
    // At the end of the range less noise is not offered.
    if (noise.noiseMultiplier > 0.0501) {
      expect(epsilonOf(samplingProbability, noise.noiseMultiplier * 0.999, steps)).toBeGreaterThan(targetEpsilon);
    }

    const most = calibrateSteps(problem);
    expect(most.epsilon).toBeLessThanOrEqual(targetEpsilon);
    if (most.steps < 1e8) {
      const more = Math.ceil(most.steps * 1.001) + 1;
      expect(epsilonOf(samplingProbability, noiseMultiplier, more)).toBeGreaterThan(targetEpsilon);
    }

    const likeliest = calibrateSamplingProbability(problem);
    sixDigits(likeliest.samplingProbability);
    expect(likeliest.epsilon).toBe(epsilonOf(likeliest.samplingProbability, noiseMultiplier, steps));
    expect(likeliest.epsilon).toBeLessThanOrEqual(targetEpsilon);
    if (likeliest.samplingProbability < 0.999) {
      const more = likeliest.samplingProbability * 1.001;
      expect(epsilonOf(more, noiseMultiplier, steps)).toBeGreaterThan(targetEpsilon);
    }
  });
});

test('a target that no noise reaches is refused with its reason', () => {
  const impossible = { targetEpsilon: 1e-9, delta: 1e-15, samplingProbability: 1, steps: 1e6 };
  expect(() => calibrateNoiseMultiplier(impossible)).toThrow(/No noise multiplier in range reaches epsilon 1e-9/);
  expect(() => calibrateNoiseMultiplier({ ...impossible, targetEpsilon: 0 })).toThrow(/must be positive/);
});
