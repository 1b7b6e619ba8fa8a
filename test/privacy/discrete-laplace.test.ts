import { describe, expect, it } from 'vitest';

import { discreteLaplaceVariance, noisyCounts, sampleDiscreteLaplace } from '../../privacy/discrete-laplace.ts';
import { seededStream, stepStreams } from '../../privacy/noise.ts';

const draws = (scale: number, count: number): number[] => {
  const stream = seededStream(1, `discrete Laplace of scale ${scale}`);
  return Array.from({ length: count }, () => sampleDiscreteLaplace(stream, scale));
};

describe('discrete Laplace noise', () => {
  // 1 / 0.3 is a fraction with a denominator of 2^51; 0.2 has nearly all its mass at zero.
  it.each([10, 1 / 0.3, 1, 0.2])('of scale %d has the probabilities that it must have', (scale) => {
    const count = 40_000;
    const sample = draws(scale, count);
    const frequency = new Map<number, number>();
    for (const value of sample) frequency.set(value, (frequency.get(value) ?? 0) + 1);
    const decay = Math.exp(-1 / scale);
    const probability = (z: number): number => ((1 - decay) / (1 + decay)) * decay ** Math.abs(z);
    // Pearson's statistic over the cells that expect ten or more, and the rest as one.
    const reach = Math.max(0, Math.floor(scale * Math.log((count * probability(0)) / 10)));
    let statistic = 0;
    let inside = 0;
    for (let z = -reach; z <= reach; z += 1) {
      const expected = count * probability(z);
      inside += probability(z);
      statistic += ((frequency.get(z) ?? 0) - expected) ** 2 / expected;
    }
    const cells = 2 * reach + 1;
    const beyond = count * (1 - inside);
    const seenBeyond = sample.filter((z) => Math.abs(z) > reach).length;
    if (beyond > 0) statistic += (seenBeyond - beyond) ** 2 / beyond;
    // Chi-squared has mean `cells` and variance 2 `cells`: five deviations.
    expect(statistic).toBeLessThan(cells + 5 * Math.sqrt(2 * cells) + 10);
    const variance = sample.reduce((sum, z) => sum + z * z, 0) / count;
    expect(Math.abs(variance / discreteLaplaceVariance(scale) - 1)).toBeLessThan(0.1);
  });

  it('repeats for the same key and state, and is another for another state', () => {
    const mechanism = { kind: 'discrete-laplace', scale: 10, sensitivity: 1 } as const;
    const table = [
      [40, 3],
      [5, 52],
    ];
    const key = Buffer.alloc(32, 7);
    const released = (state: string): number[][] =>
      noisyCounts(table, mechanism, stepStreams(key, 'node/release', 0, Buffer.from(state)).noise);
    expect(released('a')).toEqual(released('a'));
    expect(released('a')).not.toEqual(released('b'));
    expect(released('a').flat().every(Number.isInteger)).toBe(true);
  });

  it('has no scale that is not a positive number', () => {
    const stream = seededStream(1, 'unused');
    for (const scale of [0, -1, NaN, Infinity]) expect(() => sampleDiscreteLaplace(stream, scale)).toThrow(RangeError);
  });
});
