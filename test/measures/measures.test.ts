import { describe, expect, it } from 'vitest';

import {
  accuracy,
  bootstrapInterval,
  confusionMatrix,
  macroF1,
  majorityAccuracy,
  mean,
  standardDeviation,
  studentCdf,
  studentQuantile,
  tInterval,
  wilsonInterval,
} from '../../measures/index.ts';
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
