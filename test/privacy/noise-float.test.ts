import { describe, expect, it } from 'vitest';

import { addFloatGaussian } from '../../privacy/float-gaussian.ts';
import { stepStreams } from '../../privacy/noise.ts';
import { distanceFromNormal, momentOf, normalCdf } from './normal-distribution.ts';

const stream = () => stepStreams(Buffer.alloc(32, 7), 'float', 0, Buffer.alloc(32)).noise;

describe('noise in float arithmetic', () => {
  const n = 1_000_000;
  const sample = new Float64Array(n);
  addFloatGaussian(sample, stream(), 1);

  it('has the moments of a standard normal', () => {
    const moment = (power: number): number => momentOf(sample, power);
    // Five standard errors each.
    expect(Math.abs(moment(1))).toBeLessThan(5 * Math.sqrt(1 / n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / n));
    expect(Math.abs(moment(6) - 15)).toBeLessThan(5 * Math.sqrt((10_395 - 225) / n));
  });

  it('passes a Kolmogorov-Smirnov test', () => {
    // 1.95 / sqrt(n) is the 0.1 % critical value.
    expect(distanceFromNormal(sample)).toBeLessThan(1.95 / Math.sqrt(n));
  });

  it('falls into narrow cells, the tails among them, as often as it should', () => {
    const width = 1 / 16;
    const cells = 128;
    const counts = new Float64Array(cells);
    for (const value of sample) {
      counts[Math.max(0, Math.min(cells - 1, Math.floor(value / width) + cells / 2))]!++;
    }
    let distance = 0;
    counts.forEach((count, cell) => {
      const below = cell === 0 ? 0 : normalCdf((cell - cells / 2) * width);
      const above = cell === cells - 1 ? 1 : normalCdf((cell + 1 - cells / 2) * width);
      distance += (count - n * (above - below)) ** 2 / (n * (above - below));
    });
    // Chi-squared with 127 degrees of freedom.
    expect(Math.abs(distance - (cells - 1))).toBeLessThan(5 * Math.sqrt(2 * (cells - 1)));
  });

  it('is uncorrelated with the next samples, signs and sizes', () => {
    for (const lag of [1, 2]) {
      let [sum, squares] = [0, 0];
      for (let index = lag; index < n; index++) {
        sum += sample[index]! * sample[index - lag]!;
        squares += (sample[index]! ** 2 - 1) * (sample[index - lag]! ** 2 - 1);
      }
      expect(Math.abs(sum / n)).toBeLessThan(5 / Math.sqrt(n));
      expect(Math.abs(squares / n)).toBeLessThan((5 * 2) / Math.sqrt(n));
    }
  });

  it('is added, scales with the standard deviation and repeats', () => {
    const [one, three] = [new Float64Array(1000), new Float64Array(1000).fill(10)];
    addFloatGaussian(one, stream(), 1);
    addFloatGaussian(three, stream(), 3);
    three.forEach((value, index) => expect(value).toBe(10 + 3 * one[index]!));
    expect(one).toEqual(sample.slice(0, 1000));
  });
});
