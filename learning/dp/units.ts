/**
 * @file An example's gradient as integers on the grid, where it lies in host memory. Loads no TensorFlow, so that threads
 * can import it.
 */

import type { Grid } from './grid.ts';

/** Share by which a clipped norm stays below its bound: a thousand times the rounding of a norm in double precision. */
const clipMargin = 1e-9;

/** Largest norm of an example's contribution, in whole steps. */
export const largestUnits = ({ clipNorm }: Grid): number => Math.floor(clipNorm);

/**
 * Clips a gradient, the first `length` numbers of `values`, and truncates it to whole steps of the grid, in place.
 *
 * @returns whether it may be added: a gradient that is not finite contributes zero, whatever its neighbours are.
 */
export function clipToUnits(values: Float64Array, length: number, grid: Grid): boolean {
  const norm = Math.sqrt(squaredNorm(values, length));
  if (!Number.isFinite(norm)) return false;
  const bound = largestUnits(grid);
  const squared = truncate(values, length, Math.min(1 / grid.step, (bound * (1 - clipMargin)) / norm));
  // Integers: exact up to 2^53, and what is larger than that is larger than the bound.
  return squared <= bound * bound;
}

function squaredNorm(values: Float64Array, length: number): number {
  let total = 0;
  for (let at = 0; at < length; at++) total += values[at]! * values[at]!;
  return total;
}

/** Scales to steps of the grid and drops what is behind the point; returns the squared norm of what is left. */
function truncate(values: Float64Array, length: number, factor: number): number {
  let total = 0;
  for (let at = 0; at < length; at++) {
    const units = Math.trunc(values[at]! * factor);
    values[at] = units;
    total += units * units;
  }
  return total;
}

/** Adds `values` from `from` to `to` to `sums`, from `place` on. */
export function addUnits(sums: Float64Array, place: number, values: Float64Array, from: number, to: number): void {
  for (let at = from; at < to; at++) sums[place + at - from]! += values[at]!;
}
