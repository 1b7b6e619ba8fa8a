/**
 * @file The grid of exact arithmetic: each example's clipped gradient becomes a vector of integers, in units of a power
 * of two, before it is added to others, and the noise is an integer too. Sums are then those of the theorems, whatever
 * their order, and an example's part in them has a norm of at most the clip norm.
 *
 * A clip norm is between 2^21 and 2^22 units, so that truncation takes at most sqrt(d) 2^-21 of it from a gradient of d
 * parameters (0.01 % for 60,000), far less than clipping itself, and hundreds of examples fit a 32-bit sum.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';

export interface Grid {
  /** One unit, in the numbers of the gradient: a power of two. */
  step: number;
  /** The clip norm C over `step`; exact, since the step is a power of two. */
  clipNorm: number;
}

const clipNormBits = 22;

/**
 * The grid for a clip norm.
 *
 * @throws RangeError when the norm is not between 2^-100 and 2^100: single precision has to hold units and norm.
 */
export function gridFor(clipNorm: number): Grid {
  if (!(clipNorm >= 2 ** -100 && clipNorm <= 2 ** 100)) {
    throw new RangeError(`a clip norm lies between 2^-100 and 2^100, not ${clipNorm}`);
  }
  let exponent = Math.floor(Math.log2(clipNorm));
  // The logarithm of a number next to a power of two may be off by one.
  while (2 ** (exponent + 1) <= clipNorm) exponent++;
  while (2 ** exponent > clipNorm) exponent--;
  const step = 2 ** (exponent + 1 - clipNormBits);
  return { step, clipNorm: clipNorm / step };
}

/** The noise's standard deviation sigma * C in units, rounded up. */
export const deviationOnGrid = (noiseMultiplier: number, grid: Grid): number =>
  noiseMultiplier * grid.clipNorm * (1 + 2 ** -52);

/**
 * Norms for groups of parameters, in whole units, from shares of the clip norm whose squares sum to 1 at most.
 *
 * @throws RangeError when the squares of the norms exceed that of the clip norm.
 */
export function groupBounds<G extends string>(
  grid: Grid,
  shares: Readonly<Partial<Record<G, number>>>,
): Partial<Record<G, number>> {
  // A unit less, so that rounding of the shares does not matter.
  const bound = (share: number): number => Math.max(0, Math.floor(grid.clipNorm * share) - 1);
  const entries = Object.entries<number>(shares as Record<G, number>).map(
    ([group, share]) => [group, bound(share)] as const,
  );
  const total = entries.reduce((sum, [, units]) => sum + BigInt(units) ** 2n, 0n);
  if (total > BigInt(Math.floor(grid.clipNorm)) ** 2n) throw new RangeError('the shares exceed the clip norm');
  return Object.fromEntries(entries) as Partial<Record<G, number>>;
}

/** Most examples whose contributions a 32-bit sum holds. */
export const mostRows = (bound: number): number => Math.floor((2 ** 31 - 1) / Math.max(1, bound));

/**
 * Checks that sums of contributions are integers that doubles hold, with room for the noise.
 *
 * @throws EpsilonflowError STEP_FAILED: going on would be outside the proof.
 */
export function checkRange(sums: Float64Array): void {
  for (let index = 0; index < sums.length; index++) {
    const sum = sums[index]!;
    if (!Number.isInteger(sum) || Math.abs(sum) > 2 ** 52) {
      throw new EpsilonflowError('STEP_FAILED', 'A sum of clipped gradients left the range of exact arithmetic.', {
        hint: 'Lower the logical batch size.',
      });
    }
  }
}
