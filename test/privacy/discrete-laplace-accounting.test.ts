import { describe, expect, it } from 'vitest';

import { composedEpsilon, rdpCurve, type MechanismEvent } from '../../privacy/accounting/index.ts';

const event = (epsilon: number, count = 1): MechanismEvent => ({
  mechanism: 'discrete-laplace',
  scale: 1 / epsilon,
  count,
});

/** Binomial sum: of n randomised responses k give +epsilon, and delta(e) = sum of P(k) (1 - exp(e - loss))+. */
function deltaOf(epsilon: number, n: number, e: number): number {
  const p = 1 / (1 + Math.exp(-epsilon));
  let binomial = (1 - p) ** n;
  let delta = 0;
  for (let k = 0; k <= n; k += 1) {
    const loss = (2 * k - n) * epsilon;
    if (loss > e) delta += binomial * -Math.expm1(e - loss);
    binomial *= ((n - k) / (k + 1)) * (p / (1 - p));
  }
  return delta;
}

describe('discrete Laplace noise', () => {
  it.each([
    [0.1, 1],
    [0.1, 4],
    [0.5, 20],
    [2, 3],
    [0.01, 200],
  ])('of epsilon %d, %d times, costs what the binomial sum says, never less', (epsilon, n) => {
    for (const delta of [1e-3, 1e-6, 1e-9]) {
      const pld = composedEpsilon([event(epsilon, n)], delta, 'pld').epsilon;
      expect(pld).toBeLessThanOrEqual(n * epsilon * (1 + 1e-12));
      expect(deltaOf(epsilon, n, pld * (1 + 1e-12))).toBeLessThanOrEqual(delta * (1 + 1e-9));
      expect(deltaOf(epsilon, n, pld * 0.995 - 1e-3)).toBeGreaterThan(delta);
    }
  });

  it('has the Renyi divergence of randomised response', () => {
    for (const epsilon of [1e-3, 0.1, 1, 30]) {
      const orders = [1.1, 2, 16, 512];
      const p = 1 / (1 + Math.exp(-epsilon));
      rdpCurve([event(epsilon)], orders).forEach((value, i) => {
        const alpha = orders[i]!;
        const moment = p * Math.exp((alpha - 1) * epsilon) + (1 - p) * Math.exp(-(alpha - 1) * epsilon);
        const direct = Number.isFinite(moment) ? Math.log(moment) / (alpha - 1) : epsilon + Math.log(p) / (alpha - 1);
        expect(value).toBeCloseTo(direct, 9);
      });
    }
  });

  it('loses more than continuous Laplace noise of the same scale', () => {
    const continuous = composedEpsilon([{ mechanism: 'laplace', scale: 10, count: 10 }], 1e-5).epsilon;
    expect(composedEpsilon([event(0.1, 10)], 1e-5).epsilon).toBeGreaterThan(continuous);
  });
});
