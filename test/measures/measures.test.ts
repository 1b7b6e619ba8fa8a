import { describe, expect, it } from 'vitest';

import {
  accuracy,
  bootstrapInterval,
  confusionMatrix,
  macroF1,
  majorityAccuracy,
  mean,
  noisyProportionInterval,
  standardDeviation,
  studentCdf,
  studentQuantile,
  tInterval,
  wilsonInterval,
} from '../../measures/index.ts';
import { discreteLaplaceVariance, sampleDiscreteLaplace } from '../../privacy/discrete-laplace.ts';
import { seededStream } from '../../privacy/noise.ts';

describe('classification', () => {
  const truth = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2];
  const predicted = [0, 0, 0, 1, 1, 0, 2, 2, 1, 2];
  const confusion = confusionMatrix(truth, predicted, 3);

  it('counts, and agrees with values worked by hand', () => {
    expect(confusion).toEqual([
      [3, 1, 0],
      [1, 1, 0],
      [0, 1, 3],
    ]);
    expect(accuracy(confusion)).toBeCloseTo(0.7, 12);
    expect(macroF1(confusion)).toBeCloseTo((0.75 + 0.4 + 6 / 7) / 3, 12);
    expect(majorityAccuracy(confusion)).toBeCloseTo(0.4, 12);
  });

  it('gives an unpredicted class F1 zero and refuses classes out of range', () => {
    expect(macroF1(confusionMatrix([0, 1], [0, 0], 2))).toBeCloseTo(1 / 3, 12);
    expect(() => confusionMatrix([0], [2], 2)).toThrow(RangeError);
    expect(() => confusionMatrix([0, 1], [0], 2)).toThrow(RangeError);
  });
});

describe('intervals', () => {
  it("has Student's quantiles of the printed tables", () => {
    for (const [freedom, value] of [
      [1, 12.706],
      [2, 4.303],
      [4, 2.776],
      [30, 2.042],
    ] as const) {
      expect(studentQuantile(0.975, freedom)).toBeCloseTo(value, 3);
    }
    // With one degree of freedom it is Cauchy's distribution, in closed form.
    expect(studentCdf(2.5, 1)).toBeCloseTo(0.5 + Math.atan(2.5) / Math.PI, 12);
    expect(studentCdf(-0.3, 1)).toBeCloseTo(0.5 - Math.atan(0.3) / Math.PI, 12);
  });

  it('gives mean, sample deviation and t interval over seeds', () => {
    const values = [0.8, 0.82, 0.84];
    expect(mean(values)).toBeCloseTo(0.82, 12);
    expect(standardDeviation(values)).toBeCloseTo(0.02, 12);
    const { low, high } = tInterval(values);
    expect(high - 0.82).toBeCloseTo((4.302653 * 0.02) / Math.sqrt(3), 6);
    expect(low + high).toBeCloseTo(1.64, 12);
    expect(() => tInterval([1])).toThrow(RangeError);
  });

  it("gives Wilson's interval, inside [0, 1] at the ends", () => {
    // 8 of 10: the classical example, 0.490 to 0.943.
    const { low, high } = wilsonInterval(0.8, 10);
    expect(low).toBeCloseTo(0.4902, 4);
    expect(high).toBeCloseTo(0.9433, 4);
    expect(wilsonInterval(1, 20).high).toBe(1);
    expect(wilsonInterval(0, 20).low).toBe(0);
  });

  it('of noisy counts is that of Wilson without noise, wider with it, and all of [0, 1] where noise drowns the total', () => {
    const none = noisyProportionInterval(0.8, 10, { variance: 0, hits: 2, cells: 4 });
    expect(none.low).toBeCloseTo(wilsonInterval(0.8, 10).low, 12);
    expect(none.high).toBeCloseTo(wilsonInterval(0.8, 10).high, 12);
    const noise = { variance: discreteLaplaceVariance(10), hits: 2, cells: 4 };
    const noisy = noisyProportionInterval(0.8, 1000, noise);
    expect(noisy.low).toBeLessThan(wilsonInterval(0.8, 1000).low);
    expect(noisy.high).toBeGreaterThan(wilsonInterval(0.8, 1000).high);
    expect(noisyProportionInterval(0.8, 20, noise)).toEqual({ low: 0, high: 1 });
  });

  it.each([
    [0.9, 300, 10],
    [0.6, 1000, 10],
    [0.97, 5000, 20],
  ])('of noisy counts covers the true accuracy: %d of %d records, scale %d', (truth, records, scale) => {
    const stream = seededStream(11, 'coverage');
    const noise = { variance: discreteLaplaceVariance(scale), hits: 2, cells: 4 };
    const rounds = 500;
    let covered = 0;
    for (let round = 0; round < rounds; round += 1) {
      let hits = 0;
      for (let record = 0; record < records; record += 1) if (stream.uniform() < truth) hits += 1;
      const draw = (): number => sampleDiscreteLaplace(stream, scale);
      const noisyHits = hits + draw() + draw();
      const total = Math.max(1, noisyHits + records - hits + draw() + draw());
      const { low, high } = noisyProportionInterval(Math.min(1, Math.max(0, noisyHits / total)), total, noise);
      if (low <= truth && truth <= high) covered += 1;
    }
    // 95 % less three deviations of the count, 2.9 %.
    expect(covered / rounds).toBeGreaterThan(0.92);
  });

  it('covers the mean by bootstrap as the normal theory says, and repeats for a seed', () => {
    const stream = seededStream(3, 'bootstrap test');
    const values = Array.from({ length: 400 }, () => stream.uniform());
    const interval = (): { low: number; high: number } => {
      const draws = seededStream(7, 'bootstrap');
      return bootstrapInterval(values, mean, () => draws.uniform());
    };
    const { low, high } = interval();
    const reach = (1.96 * standardDeviation(values)) / Math.sqrt(400);
    expect(low).toBeCloseTo(mean(values) - reach, 2);
    expect(high).toBeCloseTo(mean(values) + reach, 2);
    expect(interval()).toEqual({ low, high });
  });
});
