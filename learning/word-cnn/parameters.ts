/** @file Shape and weights of the word-level CNN: one flat vector with named views. */

import type { KeyedStream } from '../../privacy/noise.ts';

export interface WordCnnShape {
  /** Hashed vocabulary, the padding word included. */
  buckets: number;
  embedding: number;
  /** Filters of each width. */
  filters: number;
  /** Words that a filter spans. */
  widths: readonly number[];
  classes: number;
}

/** Numbers derived from a shape. */
export interface WordCnnSizes {
  /** widths.length * filters: pooled features of a text. */
  features: number;
  /** Weight rows of the convolution: one for each width, offset in the window and filter, in that order. */
  rows: number;
  /** Widest filter, words. */
  widest: number;
}

export function wordCnnSizes(shape: WordCnnShape): WordCnnSizes {
  return {
    features: shape.widths.length * shape.filters,
    rows: shape.widths.reduce((total, width) => total + width, 0) * shape.filters,
    widest: Math.max(...shape.widths),
  };
}

/** Views into one vector. */
export interface WordCnnWeights {
  /** All weights, in the order of the views below. */
  flat: Float32Array;
  /** [buckets, embedding]; row 0 (padding) is zero. */
  embedding: Float32Array;
  /** [rows, embedding]. */
  convolution: Float32Array;
  /** [features]. */
  convolutionBias: Float32Array;
  /** [features, classes]. */
  dense: Float32Array;
  /** [classes]. */
  denseBias: Float32Array;
}

export function wordCnnWeights(shape: WordCnnShape, flat?: Float32Array): WordCnnWeights {
  const { features, rows } = wordCnnSizes(shape);
  const lengths = [
    shape.buckets * shape.embedding,
    rows * shape.embedding,
    features,
    features * shape.classes,
    shape.classes,
  ] as const;
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const vector = flat ?? new Float32Array(total);
  if (vector.length !== total) throw new RangeError(`${vector.length} weights for a shape that has ${total}`);
  let start = 0;
  const views = lengths.map((length) => vector.subarray(start, (start += length)));
  return {
    flat: vector,
    embedding: views[0]!,
    convolution: views[1]!,
    convolutionBias: views[2]!,
    dense: views[3]!,
    denseBias: views[4]!,
  };
}

/**
 * Random start: embeddings N(0, vectorNorm^2 / embedding), so that a word's vector has about the given norm; convolution
 * by He et al. 2015, eq. 10 (fan-in of a window, whose norm is that of `width` words); dense weights N(0, 1/features);
 * no biases.
 *
 * @param vectorNorm small where few noisy steps must outweigh the random start.
 */
export function initialWeights(shape: WordCnnShape, stream: KeyedStream, vectorNorm = 1): WordCnnWeights {
  const weights = wordCnnWeights(shape);
  const { features } = wordCnnSizes(shape);
  stream.fillGaussian(weights.embedding, vectorNorm / Math.sqrt(shape.embedding));
  weights.embedding.fill(0, 0, shape.embedding);
  let start = 0;
  for (const width of shape.widths) {
    const end = start + width * shape.filters * shape.embedding;
    stream.fillGaussian(weights.convolution.subarray(start, end), Math.sqrt(2 / width));
    start = end;
  }
  stream.fillGaussian(weights.dense, 1 / Math.sqrt(features));
  return weights;
}
