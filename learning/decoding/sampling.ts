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
 * Draws token j with probability softmax(logits)_j by inversion: the first token whose cumulative probability exceeds the
 * uniform number. Sums run first over chunks of the vocabulary, then inside the chosen chunk.
 *
 * @param logits [rows, vocab]
 * @param uniforms [rows], in [0, 1]
 * @returns [rows] int32
 */
export function drawTokens(logits: Tensor, uniforms: Tensor): Tensor {
  const [rows, vocab] = logits.shape as [number, number];
  const chunks = Math.ceil(vocab / chunkWidth);
  const weights = logits.sub(logits.max(-1, true)).exp();
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

/** How the next token is chosen. */
export interface SamplingRules {
  /** 0: the most probable token. */
  temperature: number;
  /** Only so many most probable tokens, and what is as probable as the last of them. Null: all. */
  topK: number | null;
  /** Only the most probable tokens that together reach this probability (Holtzman et al. 2020). 1: all. */
  topP: number;
  /** Positive logits of tokens that the text holds are divided by it, negative ones multiplied (Keskar et al. 2019). */
  repetitionPenalty: number;
}

/** Far below any logit, and finite. */
const excluded = -1e9;

/** Logits of which only those at or above a threshold [rows, 1] are kept. */
const keptFrom = (logits: Tensor, threshold: Tensor): Tensor =>
  tf.where(tf.greaterEqual(logits, threshold), logits, tf.fill(logits.shape, excluded));

function keepMostProbable(logits: Tensor, count: number): Tensor {
  if (count >= (logits.shape[1] as number)) return logits;
  const { values } = tf.topk(logits, count);
  return keptFrom(logits, values.slice([0, count - 1], [logits.shape[0] as number, 1]));
}

/** exp of less than this is zero in float32. */
const leastExponent = -104;
/** So many halvings of that range leave no number of float32 between two thresholds. */
const halvings = 32;

/** The threshold of a nucleus by bisection: a sum over the vocabulary for each halving, and no sorting. */
function keepNucleus(logits: Tensor, probability: number): Tensor {
  const shifted = logits.sub(logits.max(-1, true)) as Tensor;
  const weights = shifted.exp();
  const needed = weights.sum(-1, true).mul(probability);
  const reaches = (threshold: Tensor): Tensor =>
    tf.greaterEqual(
      tf.where(tf.greaterEqual(shifted, threshold), weights, tf.zerosLike(weights)).sum(-1, true),
      needed,
    );
  let above = tf.zerosLike(needed) as Tensor;
  let reached = tf.where(reaches(above), above, tf.fill(needed.shape, leastExponent)) as Tensor;
  for (let halving = 0; halving < halvings; halving++) {
    const middle = reached.add(above).mul(0.5) as Tensor;
    const enough = reaches(middle);
    reached = tf.where(enough, middle, reached);
    above = tf.where(enough, above, middle);
  }
  return tf.where(tf.greaterEqual(shifted, reached), logits, tf.fill(logits.shape, excluded));
}

/**
 * The next token of each row. First the penalty, then temperature, top-k and top-p.
 *
 * @param logits [rows, vocab]
 * @param uniforms [rows], in [0, 1]
 * @param seen [rows, vocab]: 1 for tokens that the row's text holds, 0 for others; read if there is a penalty
 * @returns [rows] int32
 */
export function chooseTokens(logits: Tensor, rules: SamplingRules, uniforms: Tensor, seen: Tensor | null): Tensor {
  const { temperature, topK, topP, repetitionPenalty } = rules;
  let scores = logits;
  if (seen !== null) {
    const factor = tf.where(
      tf.greater(scores, 0),
      tf.fill(scores.shape, 1 / repetitionPenalty),
      tf.fill(scores.shape, repetitionPenalty),
    );
    scores = tf.where(tf.greater(seen, 0), scores.mul(factor), scores);
  }
  if (temperature === 0) return bestTokens(scores);
  if (topK !== null) scores = keepMostProbable(scores, topK);
  scores = scores.mul(1 / temperature);
  if (topP < 1) scores = keepNucleus(scores, topP);
  return drawTokens(scores, uniforms);
}
