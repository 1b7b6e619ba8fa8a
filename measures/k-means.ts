/** @file k-means (Lloyd 1982) from random rows, several times over; the best is kept. */

import { rowsOf, type Vectors } from './vectors.ts';

export interface KMeansOptions {
  clusters: number;
  /** Starts, of which the one with the least sum of squared distances is kept. */
  starts: number;
  /** Most rounds of a start; it ends sooner when no row changes its cluster. */
  rounds: number;
  /** Source of numbers in [0, 1). */
  uniform: () => number;
}

/** How far apart the two halves of a cluster begin that is split since another one was empty. */
const splitBy = 1 / 1024;

class Clustering {
  readonly labels: Int32Array;
  readonly #vectors: Vectors;
  readonly #clusters: number;
  readonly #uniform: () => number;
  readonly #centres: Float64Array;
  readonly #distances: Float64Array;
  readonly #moved: Uint8Array;

  constructor(vectors: Vectors, { clusters, uniform }: KMeansOptions) {
    const { dim, values } = vectors;
    this.#vectors = vectors;
    this.#clusters = clusters;
    this.#uniform = uniform;
    this.#centres = new Float64Array(clusters * dim);
    const rows = Array.from({ length: rowsOf(vectors) }, (_, row) => row);
    for (let cluster = 0; cluster < clusters; cluster++) {
      const other = cluster + Math.floor(uniform() * (rows.length - cluster));
      [rows[cluster], rows[other]] = [rows[other]!, rows[cluster]!];
      const start = rows[cluster]! * dim;
      this.#centres.set(values.subarray(start, start + dim), cluster * dim);
    }
    this.labels = new Int32Array(rows.length).fill(-1);
    this.#distances = new Float64Array(rows.length).fill(Infinity);
    this.#moved = new Uint8Array(clusters).fill(1);
  }

  get objective(): number {
    return this.#distances.reduce((sum, distance) => sum + distance, 0);
  }

  /** Squared distance of a row from a centre; anything above `most` when it is more than that. */
  #distance(row: number, cluster: number, most: number): number {
    const { dim, values } = this.#vectors;
    const [left, right] = [row * dim, cluster * dim];
    let sum = 0;
    for (let at = 0; at < dim && sum <= most; at++) sum += (values[left + at]! - this.#centres[right + at]!) ** 2;
    return sum;
  }

  /** Gives each row to its nearest centre. Whether any changed. */
  assign(): boolean {
    let changed = false;
    const movedCentres = [...this.#moved.keys()].filter((cluster) => this.#moved[cluster] === 1);
    const all = Array.from({ length: this.#clusters }, (_, cluster) => cluster);
    for (let row = 0; row < this.labels.length; row++) {
      const own = this.labels[row]!;
      const hasMoved = own < 0 || this.#moved[own] === 1;
      let [best, least] = [own, own < 0 ? Infinity : this.#distances[row]!];
      if (hasMoved && own >= 0) least = this.#distance(row, own, Infinity);
      // A centre that stays is no nearer than it was; the row's own may have moved away from it.
      for (const cluster of hasMoved ? all : movedCentres) {
        const distance = this.#distance(row, cluster, least);
        if (distance < least) [best, least] = [cluster, distance];
      }
      if (best !== own) changed = true;
      this.labels[row] = best;
      this.#distances[row] = least;
    }
    return changed;
  }

  /** Moves each centre to the mean of its rows. */
  move(): void {
    const { dim, values } = this.#vectors;
    const sizes = new Float64Array(this.#clusters);
    const sums = new Float64Array(this.#clusters * dim);
    this.labels.forEach((label, row) => {
      sizes[label]! += 1;
      for (let at = 0; at < dim; at++) sums[label * dim + at]! += values[row * dim + at]!;
    });
    for (let cluster = 0; cluster < this.#clusters; cluster++) {
      if (sizes[cluster] === 0) continue;
      for (let at = 0; at < dim; at++) sums[cluster * dim + at]! /= sizes[cluster]!;
    }
    this.#fillEmpty(sums, sizes);
    for (let cluster = 0; cluster < this.#clusters; cluster++) {
      const [from, to] = [cluster * dim, (cluster + 1) * dim];
      this.#moved[cluster] = Number(sums.subarray(from, to).some((value, at) => value !== this.#centres[from + at]));
    }
    this.#centres.set(sums);
  }

  /** An empty cluster takes half of another one, a large one more likely, as in faiss. */
  #fillEmpty(centres: Float64Array, sizes: Float64Array): void {
    const { dim } = this.#vectors;
    for (let empty = 0; empty < this.#clusters; empty++) {
      if (sizes[empty]! > 0) continue;
      const spare = sizes.map((size) => Math.max(0, size - 1));
      const whole = spare.reduce((sum, size) => sum + size, 0);
      if (whole === 0) return;
      let left = this.#uniform() * whole;
      let split = spare.findIndex((size) => (left -= size) < 0);
      if (split < 0) split = spare.findLastIndex((size) => size > 0);
      for (let at = 0; at < dim; at++) {
        const centre = centres[split * dim + at]!;
        const by = at % 2 === 0 ? splitBy : -splitBy;
        centres[empty * dim + at] = centre * (1 + by);
        centres[split * dim + at] = centre * (1 - by);
      }
      sizes[empty] = sizes[split]! / 2;
      sizes[split]! -= sizes[empty];
    }
  }
}

/**
 * Cluster of each row, 0 to clusters - 1. Yields after each round: it may take minutes.
 *
 * @throws RangeError with fewer rows than clusters
 */
export function* kMeans(vectors: Vectors, options: KMeansOptions): Generator<void, Int32Array> {
  if (rowsOf(vectors) < options.clusters) throw new RangeError('k-means of fewer rows than clusters');
  let best: Clustering | null = null;
  for (let start = 0; start < options.starts; start++) {
    const clustering = new Clustering(vectors, options);
    let changed = clustering.assign();
    for (let round = 0; changed && round < options.rounds; round++) {
      clustering.move();
      changed = clustering.assign();
      yield;
    }
    if (best === null || clustering.objective < best.objective) best = clustering;
  }
  return best!.labels;
}
