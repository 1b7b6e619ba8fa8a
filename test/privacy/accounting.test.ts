import { describe, expect, test } from 'vitest';

import { checkEvent, composedEpsilon, rdpCurve, type MechanismEvent } from '../../privacy/accounting/index.ts';
import { inverseTransform, roundOff, transform } from '../../privacy/accounting/fourier.ts';
import { gaussianEpsilon } from '../../privacy/accounting/gaussian.ts';
import { pldEpsilon } from '../../privacy/accounting/loss-distribution.ts';
import { discretise } from '../../privacy/accounting/loss-grid.ts';
import { lossMeasure } from '../../privacy/accounting/loss-measure.ts';
import { millsRatio } from '../../privacy/accounting/special-functions.ts';

const steps = (samplingProbability: number, noiseMultiplier: number, count: number): MechanismEvent => ({
  mechanism: 'poisson-gaussian',
  samplingProbability,
  noiseMultiplier,
  count,
});

describe('closed forms, by 40-digit arithmetic', () => {
  // Bisection of Balle and Wang's formula (2018, theorem 8).
  test.each([
    [0.3, 1e-7, 22.286137066489615],
    [0.3, 1e-15, 31.516079404745694],
    [1, 1e-10, 6.547924066864951],
    [5, 1e-15, 1.51431720832000936],
    [50, 1e-7, 0.0817787982658997],
    [1000, 1e-5, 0.00193872496986011],
    [1000, 1e-10, 0.00488245527897352],
    [50, 1e-2, 0],
  ])('Gaussian noise %d at delta %d', (sigma, delta, truth) => {
    const closed = gaussianEpsilon(sigma, delta);
    expect(closed).toBeGreaterThanOrEqual(truth);
    expect(closed).toBeLessThan(truth + 1e-11);
    const grid = pldEpsilon([{ mechanism: 'gaussian', noiseMultiplier: sigma, count: 1 }], delta);
    expect(grid).toBeGreaterThanOrEqual(truth);
    expect(grid).toBeLessThanOrEqual(truth * 1.0003);
  });

  // The larger of both directions' hockey-stick divergences.
  test.each([
    [0.01, 0.7, 1e-7, 2.16757755023069],
    [0.01, 0.7, 1e-10, 4.04504531503443],
    [0.2, 2, 1e-15, 2.28842190703912],
    [0.9, 1, 1e-10, 6.42607609771137],
    [1e-6, 0.3, 1e-7, 0.00800856791962104],
  ])('one step of DP-SGD: q %d, noise %d, delta %d', (q, sigma, delta, truth) => {
    const { epsilon } = composedEpsilon([steps(q, sigma, 1)], delta);
    expect(epsilon).toBeGreaterThan(truth - 1e-13);
    expect(epsilon).toBeLessThan(truth * 1.005);
  });

  // Adaptive quadrature of E[(1 - q + q exp((2x-1)/(2 sigma^2)))^alpha].
  test.each([
    [0.04096, 0.5, 1.5, 0.032240788913681789],
    [0.01, 1, 8.2, 0.00095230530261652397],
    [1e-5, 0.3, 2.9, 0.031796572120837491],
    [0.5, 4, 1.01, 0.0079528798234412593],
    [0.3, 20, 10.9, 0.001233421162595229],
  ])('Renyi divergence: q %d, noise %d, order %d', (q, sigma, order, truth) => {
    const [divergence] = rdpCurve([steps(q, sigma, 1)], [order]);
    expect(divergence).toBeGreaterThanOrEqual(truth);
    expect(divergence).toBeLessThan(truth * (1 + 3e-11));
  });

  test('pure Laplace noise: composed epsilon of a bounded loss', () => {
    // One application: delta(e) = 1/2 (1 - exp(e - 1)) near e = 1, so epsilon is 1 + log(1 - 2 delta).
    const { epsilon } = composedEpsilon([{ mechanism: 'laplace', scale: 1, count: 1 }], 1e-3);
    expect(epsilon).toBeGreaterThanOrEqual(1 + Math.log1p(-2e-3));
    expect(epsilon).toBeLessThan(1.0005);
  });

  test('Mills ratio is continuous where its two formulas meet', () => {
    expect(Math.abs(millsRatio(2.2 - 1e-15) / millsRatio(2.2) - 1)).toBeLessThan(3e-14);
    expect(millsRatio(0)).toBeCloseTo(Math.sqrt(Math.PI / 2), 15);
  });
});

describe('composition', () => {
  test('the transform composes like direct convolution', () => {
    const grid = discretise(lossMeasure(steps(0.3, 1, 4), 'remove', { low: -30, high: -30 }), 0.02);
    let direct = [1];
    for (let i = 0; i < 4; i += 1) {
      const next = new Array<number>(direct.length + grid.masses.length - 1).fill(0);
      direct.forEach((mass, a) => grid.masses.forEach((other, b) => (next[a + b]! += mass * other)));
      direct = next;
    }
    const delta = 1e-6;
    const lossAt = (i: number): number => (4 * grid.first + i) * grid.step;
    const deltaAt = (epsilon: number): number =>
      direct.reduce((sum, mass, i) => sum + (lossAt(i) > epsilon ? mass * -Math.expm1(epsilon - lossAt(i)) : 0), 0);
    let low = 0;
    let high = 50;
    while (high - low > 1e-9) {
      const middle = (low + high) / 2;
      if (deltaAt(middle) > delta) low = middle;
      else high = middle;
    }
    // The direct one is on a coarse grid: above the truth by its own discretisation.
    const { epsilon } = composedEpsilon([steps(0.3, 1, 4)], delta);
    expect(epsilon).toBeLessThan(high);
    expect(epsilon).toBeGreaterThan(high * 0.999);
  });

  test.each(['remove', 'add'] as const)('a grid keeps mass under P and under Q: %s', (direction) => {
    const cut = { low: -60, high: -60 };
    const grid = discretise(lossMeasure(steps(0.1, 0.8, 1), direction, cut), 0.01);
    let p = 0;
    let q = 0;
    grid.masses.forEach((mass, i) => {
      p += mass;
      q += mass * Math.exp(-(grid.first + i) * grid.step);
    });
    expect(Math.abs(p - 1)).toBeLessThan(1e-13);
    expect(Math.abs(q - 1)).toBeLessThan(1e-12);
  });

  test('order does not matter, nor whether equal mechanisms come in one piece', () => {
    const [a, b] = [steps(0.02, 1.1, 300), steps(0.1, 3, 100)];
    const whole = composedEpsilon([a, b], 1e-6);
    expect(composedEpsilon([b, steps(0.02, 1.1, 100), steps(0.02, 1.1, 200)], 1e-6)).toEqual(whole);
    expect(whole.epsilon).toBeGreaterThan(composedEpsilon([a], 1e-6).epsilon);
  });

  test('nothing costs nothing; certain sampling is no sampling', () => {
    expect(composedEpsilon([], 1e-5).epsilon).toBe(0);
    expect(composedEpsilon([steps(0, 1, 10), steps(0.5, 1, 0)], 1e-5).epsilon).toBe(0);
    const plain: MechanismEvent = { mechanism: 'gaussian', noiseMultiplier: 2, count: 9 };
    expect(composedEpsilon([steps(1, 2, 9)], 1e-5)).toEqual(composedEpsilon([plain], 1e-5));
  });

  test('privacy-loss distributions beat Renyi divergence, and say so', () => {
    const exact = composedEpsilon([steps(0.01, 1, 1000)], 1e-5);
    const renyi = composedEpsilon([steps(0.01, 1, 1000)], 1e-5, 'rdp');
    expect(exact.accountant).toBe('pld');
    expect(renyi.accountant).toBe('rdp');
    expect(exact.epsilon).toBeLessThan(0.9 * renyi.epsilon);
  });
});

describe('extremes', () => {
  const cases = [1e-6, 1e-3, 0.3, 0.999].flatMap((q) =>
    [0.3, 1, 50].flatMap((sigma) =>
      [1, 100, 100_000].flatMap((count) => [1e-2, 1e-7, 1e-15].map((delta) => [q, sigma, count, delta] as const)),
    ),
  );

  test('finite answers, monotone in delta, each at most that of Renyi divergence', () => {
    let previous = 0;
    for (const [q, sigma, count, delta] of cases) {
      const name = `q ${q}, sigma ${sigma}, ${count} steps, delta ${delta}`;
      const { epsilon } = composedEpsilon([steps(q, sigma, count)], delta);
      expect(Number.isFinite(epsilon), name).toBe(true);
      expect(epsilon, name).toBeLessThanOrEqual(composedEpsilon([steps(q, sigma, count)], delta, 'rdp').epsilon);
      if (delta !== 1e-2) expect(epsilon, name).toBeGreaterThanOrEqual(previous * 0.9999);
      previous = epsilon;
    }
  });

  test.each([
    [{ mechanism: 'poisson-gaussian', samplingProbability: 1.1, noiseMultiplier: 1, count: 1 }, 'samplingProbability'],
    [{ mechanism: 'gaussian', noiseMultiplier: 0, count: 1 }, 'noiseMultiplier'],
    [{ mechanism: 'gaussian', noiseMultiplier: Number.NaN, count: 1 }, 'noiseMultiplier'],
    [{ mechanism: 'laplace', scale: 1, count: 1.5 }, 'count'],
    [{ mechanism: 'exponential' }, 'Unknown mechanism'],
    [null, 'object'],
  ])('what is out of range is refused: %j', (event, named) => {
    expect(() => checkEvent(event)).toThrow(named);
    expect(() => composedEpsilon([steps(0.1, 1, 1)], 0)).toThrow('delta');
  });
});

test('the round-off of a transform stays within its bound', () => {
  const length = 4096;
  const real = Float64Array.from({ length }, (_, i) => 1 / (1 + ((i * 7919) % length)));
  const imaginary = new Float64Array(length);
  const original = real.slice();
  const magnitude = original.reduce((sum, value) => sum + value, 0);
  transform(real, imaginary);
  expect(Math.abs(real[0]! - magnitude)).toBeLessThan(roundOff(length) * magnitude);
  inverseTransform(real, imaginary);
  const error = original.reduce((worst, value, i) => Math.max(worst, Math.abs(real[i]! - value)), 0);
  expect(error).toBeLessThan(2 * roundOff(length) * magnitude);
});
