import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

import {
  frechetDistance,
  inManifold,
  mauve,
  mean,
  momentsOf,
  quantise,
  radii,
  sharesOf,
  standardDeviation,
  type Vectors,
} from '../../measures/index.ts';
import { kMeans } from '../../measures/k-means.ts';
import { principalComponents, stacked, unitRows } from '../../measures/vectors.ts';
import { seededStream } from '../../privacy/noise.ts';

interface Golden {
  a: number[][];
  b: number[][];
  histograms: [number[], number[]];
  mauve: number;
  mauveBySeed: number[];
  buckets: number;
  components: number;
  frechet: number;
  precision: number;
  recall: number;
}

/** Of mauve-text, scipy and numpy: see make-golden-vectors.py. */
const golden = JSON.parse(readFileSync(new URL('./golden-vectors.json', import.meta.url), 'utf8')) as Golden;
const vectorsOf = (rows: number[][]): Vectors => ({ dim: rows[0]!.length, values: Float64Array.from(rows.flat()) });
const [a, b] = [vectorsOf(golden.a), vectorsOf(golden.b)];

function finish<T>(work: Generator<void, T>): T {
  for (;;) {
    const next = work.next();
    if (next.done === true) return next.value;
  }
}

const source = (seed: number): (() => number) => {
  const stream = seededStream(seed, 'clusters of a test');
  return () => stream.uniform();
};

const mauveOf = (first: Vectors, second: Vectors, seed: number): number => {
  const { first: left, second: right, clusters } = finish(quantise(first, second, source(seed)));
  return mauve(sharesOf(left, clusters), sharesOf(right, clusters));
};

describe('MAUVE', () => {
  it('of given shares is that of mauve-text', () => {
    const [p, q] = golden.histograms.map((shares) => Float64Array.from(shares)) as [Float64Array, Float64Array];
    expect(mauve(p, q)).toBeCloseTo(golden.mauve, 12);
    expect(mauve(p, p)).toBeCloseTo(1, 12);
    expect(mauve(Float64Array.of(1, 0), Float64Array.of(0, 1))).toBeLessThan(0.01);
  });

  it('clusters in as many components and clusters as mauve-text', () => {
    expect(principalComponents(unitRows(stacked(a, b)), 0.9).dim).toBe(golden.components);
    expect(finish(quantise(a, b, source(1))).clusters).toBe(golden.buckets);
  });

  it('of given vectors spreads over seeds as that of mauve-text does, around the same mean', () => {
    const found = Array.from({ length: 20 }, (_, seed) => mauveOf(a, b, seed));
    const spread = Math.hypot(standardDeviation(found), standardDeviation(golden.mauveBySeed));
    // Welch's t of 20 values each: beyond 4 once in 3,000.
    expect(Math.abs(mean(found) - mean(golden.mauveBySeed)) / (spread / Math.sqrt(20))).toBeLessThan(4);
  });

  it('repeats for a seed', () => {
    expect(mauveOf(a, b, 3)).toBe(mauveOf(a, b, 3));
  });
});

describe('k-means', () => {
  it('finds groups that lie apart, and leaves none empty where rows repeat', () => {
    const groups = [
      [0, 0],
      [0.1, 0],
      [9, 9],
      [9, 9.1],
      [-9, 9],
      [-9, 9.2],
    ];
    const options = { starts: 5, rounds: 100 };
    const labels = finish(kMeans(vectorsOf(groups), { ...options, clusters: 3, uniform: source(1) }));
    expect([labels[0], labels[2], labels[4]]).toEqual([labels[1], labels[3], labels[5]]);
    expect(new Set(labels).size).toBe(3);
    const same = vectorsOf([[1, 1], [1, 1], [1, 1], [5, 5]]); // prettier-ignore
    expect([...finish(kMeans(same, { ...options, clusters: 2, uniform: source(2) }))].slice(0, 3)).toHaveLength(3);
    expect(() => finish(kMeans(same, { ...options, clusters: 5, uniform: source(2) }))).toThrow(RangeError);
  });

  it('leaves each row with the nearest mean of a cluster', () => {
    const labels = finish(kMeans(a, { clusters: 12, starts: 1, rounds: 500, uniform: source(4) }));
    const members = (cluster: number): number[][] => golden.a.filter((_, row) => labels[row] === cluster);
    const means = Array.from({ length: 12 }, (_, cluster) => {
      const rows = members(cluster);
      return golden.a[0]!.map((_value, at) => mean(rows.map((row) => row[at]!)));
    });
    const distance = (row: number[], cluster: number): number =>
      row.reduce((sum, value, at) => sum + (value - means[cluster]![at]!) ** 2, 0);
    golden.a.forEach((row, index) => {
      const distances = means.map((_, cluster) => distance(row, cluster));
      expect(distances[labels[index]!]).toBeCloseTo(Math.min(...distances), 9);
    });
  });
});

it('the Fréchet distance is that of scipy, and 0 of a set from itself', () => {
  expect(frechetDistance(momentsOf(a), momentsOf(b))).toBeCloseTo(golden.frechet, 8);
  expect(frechetDistance(momentsOf(a), momentsOf(a))).toBeCloseTo(0, 8);
});

it('precision and recall are those of comparing all pairs', () => {
  const share = (points: Vectors, support: Vectors): number =>
    mean([...finish(inManifold(points, support, finish(radii(support))))]);
  expect(share(a, b)).toBeCloseTo(golden.precision, 12);
  expect(share(b, a)).toBeCloseTo(golden.recall, 12);
});
