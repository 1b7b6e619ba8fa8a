import { describe, expect, it } from 'vitest';

import { exponentialBounds } from '../../privacy/exact-exponential.ts';
import { largestDeviation, roundedGaussian } from '../../privacy/exact-gaussian.ts';
import { stepStreams, type KeyedStream } from '../../privacy/noise.ts';
import { poissonBatch } from '../../privacy/poisson.ts';
import { distanceFromNormal, momentOf, normalCdf } from './normal-distribution.ts';

const key = Buffer.alloc(32, 7);
const state = Buffer.alloc(32, 1);
const noiseOf = (node: string, step = 0, from = state): KeyedStream => stepStreams(key, node, step, from).noise;

function samples(count: number, deviation: number, stream: KeyedStream): Float64Array {
  const next = roundedGaussian(stream, deviation);
  return Float64Array.from({ length: count }, () => next());
}

/** A stream of given words, then zeros. */
function given(...words: number[]): KeyedStream {
  const unused = (): never => {
    throw new Error('not expected');
  };
  let at = 0;
  return { word: () => words[at++] ?? 0, bytes: unused, uniform: unused, fillGaussian: unused };
}

describe('bounds of the exponential function', () => {
  // exp(-1), 60 digits.
  const digits = 367879441171442321595523770161460867445811131031767834507836n;

  it('enclose it closely', () => {
    for (const bits of [8, 64, 150]) {
      const [low, high] = exponentialBounds(1n, 0, bits);
      const scaled = digits << BigInt(bits);
      expect(low * 10n ** 60n <= scaled + (1n << BigInt(bits))).toBe(true);
      expect(high * 10n ** 60n >= scaled).toBe(true);
      expect(high - low).toBeLessThan(4n);
    }
    expect(exponentialBounds(0n, 5, 40)).toEqual([1n << 40n, 1n << 40n]);
  });

  it('agree with products of their own and with doubles', () => {
    for (const [numerator, shift] of [
      [1n, 9],
      [12345n, 12],
      [(130n * 2n ** 44n + 77n) ** 2n, 97],
      [40n, 0],
    ] as const) {
      const [low, high] = exponentialBounds(numerator, shift, 200);
      expect(Number(low) / 2 ** 200).toBeCloseTo(Math.exp(-Number(numerator) / 2 ** shift), 14);
      expect(high - low).toBeLessThan(8n);
      const [halfLow, halfHigh] = exponentialBounds(numerator, shift + 1, 200);
      expect((halfLow * halfLow) >> 200n <= high && (halfHigh * halfHigh) >> 200n >= low - 1n).toBe(true);
    }
  });
});

describe('the rounded Gaussian', () => {
  const n = 300_000;
  const deviation = 1_500_000.25;
  const sample = samples(n, deviation, noiseOf('gauss'));
  const standard = sample.map((value) => value / deviation);

  it('consists of integers with the moments of a normal distribution', () => {
    expect(sample.every((value) => Number.isSafeInteger(value))).toBe(true);
    const moment = (power: number): number => momentOf(standard, power);
    // Five standard errors each.
    for (const [power, mean, variance] of [
      [1, 0, 1],
      [2, 1, 2],
      [3, 0, 15],
      [4, 3, 96],
      [6, 15, 10_170],
    ] as const) {
      expect(Math.abs(moment(power) - mean), `moment ${power}`).toBeLessThan(5 * Math.sqrt(variance / n));
    }
  });

  it('passes a Kolmogorov-Smirnov test', () => {
    // 1.95 / sqrt(n) is the 0.1 % critical value.
    expect(distanceFromNormal(standard)).toBeLessThan(1.95 / Math.sqrt(n));
  });

  it('has the tails of a normal distribution on either side', () => {
    for (const bound of [2, 3, 3.5, 4]) {
      const expected = n * (1 - normalCdf(bound));
      for (const side of [1, -1]) {
        const count = standard.filter((value) => side * value > bound).length;
        expect(Math.abs(count - expected), `beyond ${side * bound}`).toBeLessThan(5 * Math.sqrt(expected) + 1);
      }
    }
  });

  it('is uncorrelated with what came before, with other steps, nodes and states, and in its low-order bits', () => {
    const correlation = (a: Float64Array, b: Float64Array): number =>
      a.reduce((sum, value, index) => sum + (value * (b[index] ?? 0)) / deviation ** 2, 0) / n;
    for (const lag of [1, 2, 3, 128]) {
      expect(Math.abs(correlation(sample.subarray(lag), sample))).toBeLessThan(5 / Math.sqrt(n));
    }
    for (const other of [
      noiseOf('gauss', 1),
      noiseOf('another'),
      noiseOf('gauss', 0, Buffer.alloc(32, 2)),
      stepStreams(key, 'gauss', 0, state).batch,
    ]) {
      expect(Math.abs(correlation(sample, samples(n, deviation, other)))).toBeLessThan(5 / Math.sqrt(n));
    }
    const low = new Float64Array(64);
    for (const value of sample) low[((value % 64) + 64) % 64]!++;
    const chiSquare = low.reduce((sum, count) => sum + (count - n / 64) ** 2 / (n / 64), 0);
    expect(Math.abs(chiSquare - 63)).toBeLessThan(5 * Math.sqrt(2 * 63));
  });

  it.each([0.2, 1, 3.7])('has the mass of each integer at deviation %d', (small) => {
    const drawn = samples(n, small, noiseOf(`small ${small}`));
    const counts = new Map<number, number>();
    for (const value of drawn) counts.set(value, (counts.get(value) ?? 0) + 1);
    let [chiSquare, cells] = [0, 0];
    for (let at = -20; at <= 20; at++) {
      const expected = n * (normalCdf((at + 0.5) / small) - normalCdf((at - 0.5) / small));
      if (expected < 20) continue;
      chiSquare += ((counts.get(at) ?? 0) - expected) ** 2 / expected;
      cells++;
    }
    expect(chiSquare).toBeLessThan(cells + 5 * Math.sqrt(2 * cells));
  });

  it('refuses a deviation out of range', () => {
    for (const bad of [0, -1, NaN, Infinity, 2 * largestDeviation]) {
      expect(() => roundedGaussian(given(), bad)).toThrow(RangeError);
    }
    expect(samples(1000, largestDeviation, noiseOf('large')).every(Number.isSafeInteger)).toBe(true);
  });
});

describe('decisions of the sampler', () => {
  const peak = 208_000_000n;
  const heights = Array.from({ length: 128 }, (_, j) => {
    const [, high] = exponentialBounds(BigInt(j * j), 9, 96);
    return (high * peak + (1n << 96n) - 1n) >> 96n;
  });
  const inCells = heights.reduce((sum, height) => sum + height, 0n);

  /** The same from the definition, in integers of 200 bits; null where the bits drawn do not decide. */
  function reference(words: readonly number[], deviation: bigint): { used: number; value: number | null } {
    for (let at = 0; ; at += 4) {
      let chosen = BigInt(words[at]!);
      if (chosen >= inCells) {
        at -= 3;
        continue;
      }
      let j = 0;
      while (chosen >= heights[j]!) chosen -= heights[j++]!;
      const bits = (BigInt(words[at + 1]!) << 12n) | BigInt(words[at + 2]! >>> 20);
      const place = (BigInt(j) << 44n) + bits;
      const v = BigInt(words[at + 3]!);
      const used = at + 4;
      const [, high] = exponentialBounds(place ** 2n, 97, 200);
      const [low] = exponentialBounds((place + 1n) ** 2n, 97, 200);
      if ((v * heights[j]!) << 168n >= high * peak) continue;
      if (((v + 1n) * heights[j]!) << 168n > low * peak) return { used, value: null };
      const rounded = (from: bigint): bigint => (2n * deviation * from + (1n << 48n)) >> 49n;
      if (rounded(place) !== rounded(place + 1n)) return { used, value: null };
      const size = Number(rounded(place));
      return { used, value: words[at + 2]! & 1 ? 0 - size : size };
    }
  }

  it('are those of the definition, word for word', () => {
    const words = Array.from({ length: 40_000 }, () => 0);
    const stream = noiseOf('words');
    words.forEach((_, index) => (words[index] = stream.word()));
    const deviation = 1_234_567;
    const next = roundedGaussian(given(...words), deviation);
    let at = 0;
    let compared = 0;
    while (at < words.length - 100) {
      const { used, value } = reference(words.slice(at, at + 100), BigInt(deviation));
      if (value === null) break;
      expect(next()).toBe(value);
      at += used;
      compared++;
    }
    expect(compared).toBeGreaterThan(5_000);
  });

  it('draw more bits where 32 do not decide', () => {
    // Cell 0 at x = 0: the probability is peak / height = 1, and V is next to it.
    const close = given(0, 0, 1, 0xffffffff, 0, 0, 0, 0);
    expect(roundedGaussian(close, 100)()).toBe(0);
    // x = 1/2 in cell 15: X = 31/32, where 16 * X rounds up or down by bits behind the 44th.
    const cell15 = Number(heights.slice(0, 15).reduce((sum, height) => sum + height, 0n));
    expect(roundedGaussian(given(cell15, 0x80000000, 0, 0), 16)()).toBe(16);
    expect(roundedGaussian(given(cell15, 0x7fffffff, 0xfffffffe, 0, 0xffffffff), 16)()).toBe(15);
  });

  it('reach beyond eight deviations, by the rule of the tail', () => {
    // 13 zero bits choose the tail, one zero bit the second interval, then x = 3/4 and V = 0.
    const far = given(Number(inCells), 0, 0, 1, 0xc0000000, 0, 0, 0, 0, 0, 0, 0);
    expect(roundedGaussian(far, 1000)()).toBe(9750);
    const refused = given(Number(inCells), 1 << 19, 0, 0, 0, 0);
    expect(roundedGaussian(refused, 1000)()).toBe(0);
    const beyond = given(Number(inCells) + 1, 0, 0, 0, 0);
    expect(roundedGaussian(beyond, 1000)()).toBe(0);
    // The probability in the tail never exceeds 1: 2^18 peak exp(-32) < 1.
    const [, high] = exponentialBounds(32n, 0, 96);
    expect((peak << 18n) * high < 1n << 96n).toBe(true);
    expect(inCells < 1n << 32n).toBe(true);
  });
});

describe('batch and noise of a step', () => {
  it('are others for another incoming state', () => {
    const drawn = (from: Buffer): { batch: Int32Array; noise: Float64Array } => {
      const streams = stepStreams(key, 'node', 4, from);
      return { batch: poissonBatch(streams.batch, 500, 0.2), noise: samples(500, 1e6, streams.noise) };
    };
    const first = drawn(state);
    expect(drawn(state)).toEqual(first);
    const changed = Buffer.from(state);
    changed[31]! ^= 1;
    const second = drawn(changed);
    expect(second.batch).not.toEqual(first.batch);
    const equal = second.noise.filter((value, index) => value === first.noise[index]).length;
    expect(equal).toBeLessThan(5);
  });

  it('take a record with no more than the stated probability', () => {
    // The largest draw below a probability that is no multiple of 2^-53.
    const stream = (uniform: number): KeyedStream => ({ ...given(), uniform: () => uniform });
    const probability = 1e-7;
    const units = Math.floor(probability * 2 ** 53);
    expect(units).not.toBe(probability * 2 ** 53);
    expect(poissonBatch(stream(units / 2 ** 53), 1, probability)).toHaveLength(0);
    expect(poissonBatch(stream((units - 1) / 2 ** 53), 1, probability)).toHaveLength(1);
  });
});
