/** @file Figures with the error that the choice of rows gives them. */

import { standardDeviation } from './intervals.ts';

export interface Figure {
  value: number;
  /** Standard error: the standard deviation of the value over bootstrap resamples of the rows (Efron 1979). */
  error: number;
}

/** Rows of one resample, with repetition. @param uniform source of numbers in [0, 1) */
export function resampledRows(rows: number, uniform: () => number): Int32Array {
  return Int32Array.from({ length: rows }, () => Math.floor(uniform() * rows));
}

/** A mean over rows. Its standard deviation over infinitely many resamples has a closed form. */
export function meanFigure(values: ArrayLike<number>): Figure {
  if (values.length === 0) throw new RangeError('the mean of no values');
  let [sum, squares] = [0, 0];
  for (let index = 0; index < values.length; index++) sum += values[index]!;
  const value = sum / values.length;
  for (let index = 0; index < values.length; index++) squares += (values[index]! - value) ** 2;
  return { value, error: Math.sqrt(squares) / values.length };
}

/** A statistic of whole sets with what resamples of their rows gave. */
export const resampledFigure = (value: number, resampled: readonly number[]): Figure => ({
  value,
  error: standardDeviation(resampled),
});
