/** @file Fréchet distance between normal distributions with the moments of two sets (Heusel et al. 2017). */

import { Matrix } from 'ml-matrix';

import { eigen, type Moments } from './vectors.ts';

/** |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)), the squared 2-Wasserstein distance (Dowson and Landau 1982). */
export function frechetDistance(first: Moments, second: Moments): number {
  const dim = first.mean.length;
  const root = rootOf(first.covariance, dim);
  const other = Matrix.from1DArray(dim, dim, second.covariance);
  // S1 S2 has the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric.
  const product = root.mmul(other).mmul(root).to1DArray();
  const { values } = eigen(Float64Array.from(product), dim);
  let distance = -2 * values.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
  for (let at = 0; at < dim; at++) {
    distance += (first.mean[at]! - second.mean[at]!) ** 2;
    distance += first.covariance[at * dim + at]! + second.covariance[at * dim + at]!;
  }
  return Math.max(0, distance);
}

function rootOf(covariance: Float64Array, dim: number): Matrix {
  const { values, vectors } = eigen(covariance, dim);
  const roots = Matrix.diag(values.map((value) => Math.sqrt(Math.max(0, value))));
  return vectors.mmul(roots).mmul(vectors.transpose());
}
