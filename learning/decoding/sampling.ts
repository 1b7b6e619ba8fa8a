/** @file Next tokens from logits, inside a compiled function: randomness comes in as uniform numbers. */

import { tf, type Tensor } from '../tensorflow.ts';

/** Width of the chunks in which the vocabulary is summed. */
const chunkWidth = 64;

/** Running sums along the last axis by a product with a triangular matrix; short axes only. */
function runningSums(values: Tensor): Tensor {
  const size = values.shape.at(-1) as number;
  const index = tf.range(0, size, 1, 'float32');
  const upper = tf.cast(tf.lessEqual(index.reshape([size, 1]), index.reshape([1, size])), 'float32');
  return tf.matMul(values, upper);
}

/**
 * Index of the first running sum above `target` [rows, 1] in each row of `sums` [rows, size], as float [rows]. When
 * rounding leaves none, the first index at which the sum is complete: an entry of zero weight is never chosen.
 */
function firstAbove(sums: Tensor, target: Tensor): Tensor {
  const [rows, size] = sums.shape as [number, number];
  const total = sums.slice([0, size - 1], [rows, 1]);
  const passed = tf.cast(tf.lessEqual(sums, target), 'float32').sum(1);
  const incomplete = tf.cast(tf.less(sums, total), 'float32').sum(1);
  return tf.minimum(passed, incomplete);
}

/**
 * Draws token j with probability softmax(logits * inverseTemperature)_j by inversion: the first token whose cumulative
 * probability exceeds the uniform number. Sums run first over chunks of the vocabulary, then inside the chosen chunk.
 *
 * @param logits [rows, vocab]
 * @param uniforms [rows], in [0, 1]
 * @param inverseTemperature scalar
 * @returns [rows] int32
 */
export function drawTokens(logits: Tensor, uniforms: Tensor, inverseTemperature: Tensor): Tensor {
  const [rows, vocab] = logits.shape as [number, number];
  const chunks = Math.ceil(vocab / chunkWidth);
  const scaled = logits.mul(inverseTemperature);
  const weights = scaled.sub(scaled.max(-1, true)).exp();
  const padding = chunks * chunkWidth - vocab;
  const padded = padding > 0 ? tf.concat([weights, tf.zeros([rows, padding])], 1) : weights;
  const inChunks = padded.reshape([rows, chunks, chunkWidth]);
  const coarse = runningSums(inChunks.sum(2));
  const target = coarse.slice([0, chunks - 1], [rows, 1]).mul(uniforms.reshape([rows, 1]));
  const chunk = firstAbove(coarse, target);
  const chosen = tf.cast(
    tf.equal(tf.range(0, chunks, 1, 'float32').reshape([1, chunks]), chunk.reshape([rows, 1])),
    'float32',
  );
  const fine = runningSums(tf.matMul(chosen.reshape([rows, 1, chunks]), inChunks).reshape([rows, chunkWidth]));
  const inside = fine.slice([0, chunkWidth - 1], [rows, 1]);
  const before = coarse.mul(chosen).sum(1, true).sub(inside);
  return tf.cast(chunk.mul(chunkWidth).add(firstAbove(fine, target.sub(before))), 'int32');
}

/** The most probable token of each row. @param logits [rows, vocab] @returns [rows] int32 */
export const bestTokens = (logits: Tensor): Tensor => tf.cast(tf.argMax(logits, -1), 'int32');
