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

/** Views into one vector with a number for each weight. */
export interface WordCnnViews<Numbers extends Float32Array | Float64Array> {
  /** All of them, in the order of the views below. */
  flat: Numbers;
  /** [buckets, embedding]; row 0 (padding) is zero in weights. */
  embedding: Numbers;
  /** [rows, embedding]. */
  convolution: Numbers;
  /** [features]. */
  convolutionBias: Numbers;
  /** [features, classes]. */
  dense: Numbers;
  /** [classes]. */
  denseBias: Numbers;
}

export type WordCnnWeights = WordCnnViews<Float32Array>;

function viewLengths(shape: WordCnnShape): number[] {
  const { features, rows } = wordCnnSizes(shape);
  return [shape.buckets * shape.embedding, rows * shape.embedding, features, features * shape.classes, shape.classes];
}

/** Number of all weights. */
export const wordCnnLength = (shape: WordCnnShape): number =>
  viewLengths(shape).reduce((sum, length) => sum + length, 0);

export function wordCnnViews<Numbers extends Float32Array | Float64Array>(
  shape: WordCnnShape,
  flat: Numbers,
): WordCnnViews<Numbers> {
  const total = wordCnnLength(shape);
  if (flat.length !== total) throw new RangeError(`${flat.length} weights for a shape that has ${total}`);
  let start = 0;
  const views = viewLengths(shape).map((length) => flat.subarray(start, (start += length)) as Numbers);
  return {
    flat,
    embedding: views[0]!,
    convolution: views[1]!,
    convolutionBias: views[2]!,
    dense: views[3]!,
    denseBias: views[4]!,
  };
}

export const zeroWeights = (shape: WordCnnShape): WordCnnWeights =>
  wordCnnViews(shape, new Float32Array(wordCnnLength(shape)));

/**
 * Random start: embeddings N(0, vectorNorm^2 / embedding), so that a word's vector has about the given norm; convolution
 * by He et al. 2015, eq. 10 (fan-in of a window, whose norm is that of `width` words); dense weights N(0, 1/features);
 * no biases.
 *
 * @param vectorNorm small where few noisy steps must outweigh the random start.
 */
export function initialWeights(shape: WordCnnShape, stream: KeyedStream, vectorNorm = 1): WordCnnWeights {
  const weights = zeroWeights(shape);
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
