/** @file Cross-entropy with integer targets. */

import { tf, type Tensor } from '../tensorflow.ts';
import { withOwnGradient } from './own-gradient.ts';

/**
 * weights_n * -log softmax(logits_n)[target_n] for each row, in nats. Stable: the largest logit is taken off first.
 * The gradient is weights_n * (softmax(logits_n) - onehot(target_n)); the one-hot is fused away by XLA.
 *
 * @param logits [rows, vocab]
 * @param targets [rows] int32, each in [0, vocab)
 * @param weights [rows] float32; no gradient flows to it
 * @returns [rows]
 */
export function crossEntropy(logits: Tensor, targets: Tensor, weights: Tensor): Tensor {
  const [rows, vocab] = logits.shape as [number, number];
  return withOwnGradient([logits], {
    forward(logits) {
      const most = logits.max(-1, true) as Tensor;
      const logSum = logits.sub(most).exp().sum(-1, true).log() as Tensor;
      const places = tf.stack([tf.range(0, rows, 1, 'int32'), targets], 1);
      const picked = tf.gatherND(logits, places).reshape([rows, 1]);
      const value = most.add(logSum).sub(picked).reshape([rows]).mul(weights) as Tensor;
      return { value, saved: [logits, most, logSum, targets, weights] };
    },
    backward(dy, [logits, most, logSum, targets, weights]) {
      const oneHot = tf.oneHot(targets as never, vocab, 1, 0, 'float32');
      const probabilities = logits.sub(most).sub(logSum).exp();
      return [probabilities.sub(oneHot).mul(dy.mul(weights).reshape([rows, 1]))];
    },
  });
}
