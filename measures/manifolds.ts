/**
 * @file Precision and recall of a set by manifolds of nearest neighbours (Kynkäänniemi et al. 2019): a vector lies in the
 * manifold of a set when it is no further from one of its vectors than that one's third nearest neighbour in the set.
 */

import { rowsOf, type Vectors } from './vectors.ts';

const neighbours = 3;

/** Squared distance of two rows; anything above `most` when it is more than that. */
function distance(a: Vectors, row: number, b: Vectors, other: number, most: number): number {
  const { dim } = a;
  let sum = 0;
  for (let at = 0; at < dim && sum <= most; at++) sum += (a.values[row * dim + at]! - b.values[other * dim + at]!) ** 2;
  return sum;
}

/** Squared distance of each vector to its third nearest neighbour in the set. Yields after each row. */
export function* radii(vectors: Vectors): Generator<void, Float64Array> {
  const rows = rowsOf(vectors);
  const found = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const nearest = new Float64Array(neighbours).fill(Infinity);
    for (let other = 0; other < rows; other++) {
      if (other === row) continue;
      const between = distance(vectors, row, vectors, other, nearest[neighbours - 1]!);
      if (between < nearest[neighbours - 1]!) {
        nearest[neighbours - 1] = between;
        nearest.sort();
      }
    }
    found[row] = nearest[neighbours - 1]!;
    yield;
  }
  return found;
}

/** For each vector 1 when it lies in the manifold of another set, else 0. Yields after each row. */
export function* inManifold(vectors: Vectors, set: Vectors, setRadii: Float64Array): Generator<void, Uint8Array> {
  const found = new Uint8Array(rowsOf(vectors));
  for (let row = 0; row < found.length; row++) {
    for (let other = 0; other < setRadii.length && found[row] === 0; other++) {
      const radius = setRadii[other]!;
      if (distance(vectors, row, set, other, radius) <= radius) found[row] = 1;
    }
    yield;
  }
  return found;
}
