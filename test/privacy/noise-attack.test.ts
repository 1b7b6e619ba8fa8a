import { describe, expect, it } from 'vitest';

import { gridFor, deviationOnGrid } from '../../learning/dp/grid.ts';
import { roundedGaussian } from '../../privacy/exact-gaussian.ts';
import { stepStreams, type KeyedStream } from '../../privacy/noise.ts';
import { normalCdf } from './normal-distribution.ts';

/**
 * Attacks on the low-order bits of a noisy sum (Mironov 2012; Haney et al. 2022). The sum without noise is 0 or 1 = C, and
 * sigma is 1: whatever is looked at, the Gaussian mechanism lets nobody tell these apart with certainty.
 */
const count = 20_000;
const stream = (name: string): KeyedStream => stepStreams(Buffer.alloc(32, 5), name, 0, Buffer.alloc(32)).noise;

describe('an attack by the spacing of single-precision numbers', () => {
  /**
   * 1 + n with n near -1 is a multiple of 2^-24, for n itself is one. 0 + n near zero has finer bits most of the time,
   * which give it away.
   */
  const betraysZero = (y: number): boolean => Math.abs(y) < 0.25 && !Number.isInteger(y * 2 ** 24);

  it('succeeds on noise in floating point', () => {
    const rate = (sum: number): number => {
      const noise = new Float32Array(count);
      stream(`float ${sum}`).fillGaussian(noise, 1);
      return noise.filter((value) => betraysZero(Math.fround(sum + value))).length / count;
    };
    // An event of probability 0.15 and 0: no (epsilon, delta) with a small delta allows that.
    expect(rate(0)).toBeGreaterThan(0.1);
    expect(rate(1)).toBe(0);
  });

  it('fails on exact noise', () => {
    const grid = gridFor(1);
    const rate = (sum: number): number => {
      const next = roundedGaussian(stream(`exact ${sum}`), deviationOnGrid(1, grid));
      const released = Array.from({ length: count }, () => (sum / grid.step + next()) * grid.step);
      return released.filter(betraysZero).length / count;
    };
    expect(rate(0)).toBe(0);
    expect(rate(1)).toBe(0);
  });

  it('finds nothing in any of the low-order bits of exact sums', () => {
    const grid = gridFor(1);
    const patterns = (sum: number): Float64Array => {
      const next = roundedGaussian(stream(`bits ${sum}`), deviationOnGrid(1, grid));
      const counts = new Float64Array(256);
      for (let index = 0; index < count; index++) counts[(sum / grid.step + next()) & 255]!++;
      return counts;
    };
    const [zero, one] = [patterns(0), patterns(1)];
    const distance = zero.reduce((sum, value, at) => sum + (value - one[at]!) ** 2 / (value + one[at]!), 0);
    expect(Math.abs(distance - 255)).toBeLessThan(5 * Math.sqrt(2 * 255));
  });
});

describe('an attack by numbers that a sampler cannot reach', () => {
  const pairFrom = (u: number, v: number): [number, number] => {
    const radius = Math.sqrt(-2 * Math.log(1 - u));
    return [radius * Math.cos(2 * Math.PI * v), radius * Math.sin(2 * Math.PI * v)];
  };

  /** Whether Box and Muller's transform of some multiples of 2^-53 gives exactly this pair. */
  function reachable(first: number, second: number): boolean {
    const u = Math.round(-Math.expm1(-(first * first + second * second) / 2) * 2 ** 53);
    const turn = Math.atan2(second, first) / (2 * Math.PI);
    const v = Math.round((turn < 0 ? turn + 1 : turn) * 2 ** 53);
    for (let du = -6; du <= 6; du++) {
      for (let dv = -6; dv <= 6; dv++) {
        const [a, b] = pairFrom((u + du) / 2 ** 53, (v + dv) / 2 ** 53);
        if (a === first && b === second) return true;
      }
    }
    return false;
  }

  it('succeeds on the transform in double precision', () => {
    const uniform = stream('double');
    const tries = 400;
    let [named, wrong] = [0, 0];
    for (let index = 0; index < tries; index++) {
      const pair = pairFrom(uniform.uniform(), uniform.uniform());
      const sum = index % 2;
      const released: [number, number] = [sum + pair[0], pair[1]];
      const [ifZero, ifOne] = [reachable(released[0], released[1]), reachable(released[0] - 1, released[1])];
      if (ifZero === ifOne) continue;
      named++;
      if ((ifOne ? 1 : 0) !== sum) wrong++;
    }
    expect(named).toBeGreaterThan(tries / 2);
    expect(wrong / named).toBeLessThan(0.05);
  });

  it('fails on exact noise: every integer is reached from both sums, as often as its masses say', () => {
    const deviation = 2;
    const total = 400_000;
    const histogram = (sum: number): Map<number, number> => {
      const next = roundedGaussian(stream(`reach ${sum}`), deviation);
      const counts = new Map<number, number>();
      for (let index = 0; index < total; index++) {
        const released = sum + next();
        counts.set(released, (counts.get(released) ?? 0) + 1);
      }
      return counts;
    };
    const [zero, one] = [histogram(0), histogram(1)];
    for (let at = -6; at <= 7; at++) {
      const [a, b] = [zero.get(at)!, one.get(at)!];
      expect(a).toBeGreaterThan(0);
      expect(b).toBeGreaterThan(0);
      const mass = (to: number): number => normalCdf((to + 0.5) / deviation) - normalCdf((to - 0.5) / deviation);
      const expected = Math.log(mass(at) / mass(at - 1));
      expect(Math.abs(Math.log(a / b) - expected)).toBeLessThan(5 * Math.sqrt(1 / a + 1 / b));
    }
  });
});
