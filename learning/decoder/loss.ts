/** @file Cross-entropy with integer targets. */

import { tf, type Tensor } from '../tensorflow.ts';

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
  const oneHot = (ids: Tensor): Tensor => tf.oneHot(ids as never, vocab, 1, 0, 'float32');
  const loss = tf.customGrad((input, save) => {
    const scores = input as Tensor;
    const shifted = scores.sub(scores.max(-1, true));
    const logSum = shifted.exp().sum(-1, true).log();
    // tfjs disposes what the forward pass made, unless it is saved.
    (save as (tensors: Tensor[]) => void)([shifted, logSum, targets, weights]);
    const picked = shifted.mul(oneHot(targets)).sum(-1);
    const value = logSum.reshape([rows]).sub(picked).mul(weights);
    const gradFunc = (dy: Tensor, saved: Tensor[]): Tensor => {
      const [logits, normaliser, ids, scale] = saved as [Tensor, Tensor, Tensor, Tensor];
      return logits
        .sub(normaliser)
        .exp()
        .sub(oneHot(ids))
        .mul(dy.mul(scale).reshape([rows, 1]));
    };
    return { value, gradFunc };
  });
  return loss(logits);
}
