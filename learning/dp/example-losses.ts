/** @file Losses of the examples of a microbatch: of the tokens of a text, or, of a classifier, of its class. */

import type { Layers } from '../decoder/blocks.ts';
import type { ModelConfig } from '../decoder/config.ts';
import { flatHidden, flatLogits, type Conditioning } from '../decoder/forward.ts';
import { crossEntropy } from '../decoder/loss.ts';
import type { Weights } from '../decoder/weights.ts';
import { encode } from '../encoder/forward.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import type { MicrobatchInputs } from './gradients.ts';

/** The linear layer of a classifier, a copy for each example. */
export interface OwnHead {
  /** [rows, classes, dim] */
  weight: Tensor;
  /** [rows, classes] */
  bias: Tensor;
}

interface LossOptions {
  layers?: Layers | undefined;
  conditioning?: Conditioning | undefined;
  prompt?: Tensor | undefined;
  /** Instead of the loss of the tokens. */
  head?: OwnHead | undefined;
}

/**
 * Hidden states at each position, after the last norm: [rows * time, dim].
 *
 * @param tokens [rows, time] int32; of an encoder -1 for padding, which no token attends to
 */
function hiddenOf(config: ModelConfig, weights: Weights, tokens: Tensor, layers: Layers | undefined): Tensor {
  if (config.family !== 'bert') return flatHidden(config, weights, tokens, { layers });
  const isToken = tf.greaterEqual(tokens, tf.scalar(0, 'int32'));
  const known = tf.where(isToken, tokens, tf.zerosLike(tokens)) as Tensor;
  const [rows, time] = tokens.shape as [number, number];
  return encode(config, weights, known, tf.cast(isToken, 'float32'), layers).reshape([rows * time, config.dim]);
}

/**
 * Logits of the classes, [rows, classes], from a weighted sum of each example's hidden states.
 *
 * @param tokens [rows, time] @param pooling [rows, time] weights of the hidden states
 */
export function classLogits(
  config: ModelConfig,
  weights: Weights,
  { tokens, pooling }: { tokens: Tensor; pooling: Tensor },
  { layers, head }: { layers?: Layers | undefined; head: OwnHead },
): Tensor {
  const [rows, time] = pooling.shape as [number, number];
  const hidden = hiddenOf(config, weights, tokens, layers).reshape([rows, time, config.dim]);
  const pooled = tf.matMul(pooling.reshape([rows, 1, time]), hidden);
  const classes = head.bias.shape[1] as number;
  return tf.matMul(pooled, head.weight, false, true).reshape([rows, classes]).add(head.bias);
}

/** Losses [rows], nats. */
export function exampleLosses(
  config: ModelConfig,
  weights: Weights,
  { tokens, lossWeights, labels }: Pick<MicrobatchInputs, 'tokens' | 'lossWeights' | 'labels'>,
  { head, ...options }: LossOptions,
): Tensor {
  const [rows, time] = lossWeights.shape as [number, number];
  const read = tokens.slice([0, 0], [rows, time]);
  if (head) {
    const { layers } = options;
    const logits = classLogits(config, weights, { tokens: read, pooling: lossWeights }, { layers, head });
    return crossEntropy(logits, labels, tf.ones([rows]));
  }
  if (config.family === 'bert') throw new TypeError('an encoder predicts classes only');
  const logits = flatLogits(config, weights, read, options);
  const targets = tokens.slice([0, 1], [rows, time]).reshape([rows * time]);
  return crossEntropy(logits, targets, lossWeights.reshape([rows * time]))
    .reshape([rows, time])
    .sum(1);
}
