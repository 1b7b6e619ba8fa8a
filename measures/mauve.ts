/** @file MAUVE (Pillutla et al. 2021) with the settings that the package `mauve-text` has by default. */

import { kMeans } from './k-means.ts';
import { principalComponents, rowsOf, stacked, unitRows, type Vectors } from './vectors.ts';

/** The constant c of the paper. */
const scaling = 5;
const mixtures = 25;
/** How near the mixtures come to either distribution. */
const edge = 1e-6;
const keptVariance = 0.9;
const starts = 5;
const rounds = 500;

/** Clusters of the rows of two sets that were clustered together. */
export interface Quantised {
  first: Int32Array;
  second: Int32Array;
  clusters: number;
}

/** As numpy rounds: halves to the even neighbour. */
const rounded = (value: number): number =>
  value % 1 === 0.5 ? 2 * Math.round(Math.floor(value) / 2) : Math.round(value);

/** Clusters both sets: unit rows, principal components with 90 % of the variance, k-means with a tenth as many clusters. */
export function* quantise(first: Vectors, second: Vectors, uniform: () => number): Generator<void, Quantised> {
  const clusters = Math.max(2, rounded(Math.min(rowsOf(first), rowsOf(second)) / 10));
  const reduced = principalComponents(unitRows(stacked(first, second)), keptVariance);
  yield;
  const labels = yield* kMeans(reduced, { clusters, starts, rounds, uniform });
  const size = rowsOf(first);
  return { first: labels.slice(0, size), second: labels.slice(size), clusters };
}

/** Shares of the clusters among some rows. @param picks rows, with repetition; all without */
export function sharesOf(labels: Int32Array, clusters: number, picks: Int32Array | null = null): Float64Array {
  const count = picks?.length ?? labels.length;
  const shares = new Float64Array(clusters);
  for (let place = 0; place < count; place++) shares[labels[picks ? picks[place]! : place]!]! += 1 / count;
  return shares;
}

/** Kullback-Leibler divergence in nats; q is above 0 wherever p is. */
function divergence(p: Float64Array, q: Float64Array): number {
  return p.reduce((sum, share, at) => (share > 0 ? sum + share * Math.log(share / q[at]!) : sum), 0);
}

/** Area under points by trapezoids; of points at one x the higher comes first, as the curve falls. */
function area(points: readonly (readonly [x: number, y: number])[]): number {
  const ordered = [...points].sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  let sum = 0;
  for (let at = 1; at < ordered.length; at++) {
    const [[x, y], [nextX, nextY]] = [ordered[at - 1]!, ordered[at]!];
    sum += ((nextX - x) * (y + nextY)) / 2;
  }
  return sum;
}

/** MAUVE of two distributions over the same clusters, in (0, 1]: 1 of equal ones. */
export function mauve(p: Float64Array, q: Float64Array): number {
  const points: [number, number][] = [
    [1, 0],
    [0, 1],
  ];
  for (let place = 0; place < mixtures; place++) {
    const weight = edge + ((1 - 2 * edge) * place) / (mixtures - 1);
    const mixture = p.map((share, at) => weight * share + (1 - weight) * q[at]!);
    points.push([Math.exp(-scaling * divergence(q, mixture)), Math.exp(-scaling * divergence(p, mixture))]);
  }
  const turned = points.map(([x, y]): [number, number] => [y, x]);
  return (area(points) + area(turned)) / 2;
}
