/** @file Sets of vectors, one a text: moments, principal components. */

import { EigenvalueDecomposition, Matrix } from 'ml-matrix';

export interface Vectors {
  dim: number;
  /** [rows * dim], row after row. */
  values: Float64Array;
}

export const rowsOf = ({ dim, values }: Vectors): number => values.length / dim;

export function stacked(first: Vectors, second: Vectors): Vectors {
  if (first.dim !== second.dim) throw new RangeError(`vectors of ${first.dim} and of ${second.dim} numbers`);
  const values = new Float64Array(first.values.length + second.values.length);
  values.set(first.values);
  values.set(second.values, first.values.length);
  return { dim: first.dim, values };
}

/** Rows of length 1; a row of zeros stays. */
export function unitRows({ dim, values }: Vectors): Vectors {
  const scaled = values.slice();
  for (let start = 0; start < values.length; start += dim) {
    const row = scaled.subarray(start, start + dim);
    const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
    if (length > 0) row.forEach((value, at) => (row[at] = value / length));
  }
  return { dim, values: scaled };
}

export interface Moments {
  mean: Float64Array;
  /** [dim * dim], of divisor n - 1. */
  covariance: Float64Array;
}

/** @param picks rows, with repetition; all without */
export function momentsOf(vectors: Vectors, picks: ArrayLike<number> | null = null): Moments {
  const { dim, values } = vectors;
  const count = picks?.length ?? rowsOf(vectors);
  const startOf = (place: number): number => (picks ? picks[place]! : place) * dim;
  const mean = new Float64Array(dim);
  for (let place = 0; place < count; place++) {
    const start = startOf(place);
    for (let at = 0; at < dim; at++) mean[at]! += values[start + at]! / count;
  }
  const covariance = new Float64Array(dim * dim);
  const centred = new Float64Array(dim);
  for (let place = 0; place < count; place++) {
    const start = startOf(place);
    for (let at = 0; at < dim; at++) centred[at] = values[start + at]! - mean[at]!;
    for (let row = 0; row < dim; row++) {
      const factor = centred[row]! / (count - 1);
      for (let column = 0; column <= row; column++) covariance[row * dim + column]! += factor * centred[column]!;
    }
  }
  for (let row = 0; row < dim; row++) {
    for (let column = 0; column < row; column++) covariance[column * dim + row] = covariance[row * dim + column]!;
  }
  return { mean, covariance };
}

/** Eigenvalues and, as columns, eigenvectors of a symmetric matrix [dim * dim]; values rise. */
export function eigen(matrix: Float64Array, dim: number): { values: number[]; vectors: Matrix } {
  const decomposed = new EigenvalueDecomposition(Matrix.from1DArray(dim, dim, matrix), { assumeSymmetric: true });
  return { values: decomposed.realEigenvalues, vectors: decomposed.eigenvectorMatrix };
}

/** Rows on as few of their principal components as hold at least `share` of their variance. */
export function principalComponents(vectors: Vectors, share: number): Vectors {
  const { dim, values } = vectors;
  const { mean, covariance } = momentsOf(vectors);
  const { values: variances, vectors: directions } = eigen(covariance, dim);
  const whole = variances.reduce((sum, variance) => sum + Math.max(0, variance), 0);
  let kept = 0;
  for (let held = 0; kept < dim && held < share * whole; kept++) held += Math.max(0, variances[dim - 1 - kept]!);
  kept = Math.max(1, kept);
  const rows = rowsOf(vectors);
  const projected = new Float64Array(rows * kept);
  for (let component = 0; component < kept; component++) {
    const direction = directions.getColumn(dim - 1 - component);
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let at = 0; at < dim; at++) sum += (values[row * dim + at]! - mean[at]!) * direction[at]!;
      projected[row * kept + component] = sum;
    }
  }
  return { dim: kept, values: projected };
}
