/** @file Building blocks of the decoder. Activations between blocks are flat: [rows, width], rows = batch * time. */

import { tf, type Tensor } from '../tensorflow.ts';

/** x / rms(x) over the last axis (Zhang and Sennrich 2019), before the gain. */
export const rmsNorm = (x: Tensor, epsilon: number): Tensor => x.mul(x.square().mean(-1, true).add(epsilon).rsqrt());

/** x [rows, in] times the transpose of weight [out, in]. */
export const linear = (x: Tensor, matrix: Tensor): Tensor => tf.matMul(x, matrix, false, true);

/** silu(gate) * up (Shazeer 2020). */
export const swiglu = (gate: Tensor, up: Tensor): Tensor => gate.mul(gate.sigmoid()).mul(up);

export interface RotaryTables {
  /** Broadcast against [batch, time, heads, headDim / 2]. */
  cos: Tensor;
  sin: Tensor;
}

/**
 * Angles position * theta^(-2i / headDim) for each pair i (Su et al. 2021).
 *
 * @param positions [time] or [batch, 1], float32
 */
export function rotaryTables(positions: Tensor, width: number, theta: number): RotaryTables {
  const half = width / 2;
  const frequencies = tf
    .range(0, half, 1, 'float32')
    .mul((-2 * Math.log(theta)) / width)
    .exp();
  const [rows, columns] = positions.rank === 1 ? [1, positions.size] : [positions.size, 1];
  const angles = positions.reshape([-1, 1]).mul(frequencies).reshape([rows, columns, 1, half]);
  return { cos: angles.cos(), sin: angles.sin() };
}

function rotatePairs(x: Tensor, cos: Tensor, sin: Tensor, direction: 1 | -1): Tensor {
  const [first, second] = tf.split(x, 2, -1) as [Tensor, Tensor];
  const turned = sin.mul(direction);
  return tf.concat([first.mul(cos).sub(second.mul(turned)), second.mul(cos).add(first.mul(turned))], -1);
}

/**
 * Rotates the pairs (x_i, x_{i + headDim/2}): the layout of Hugging Face files. The gradient is the inverse rotation.
 *
 * @param x [batch, time, heads, headDim]
 */
export function rotate(x: Tensor, { cos, sin }: RotaryTables): Tensor {
  const rotation = tf.customGrad((input, save) => {
    (save as (tensors: Tensor[]) => void)([cos, sin]);
    return {
      value: rotatePairs(input as Tensor, cos, sin, 1),
      gradFunc: (dy: Tensor, saved: Tensor[]) => rotatePairs(dy, saved[0] as Tensor, saved[1] as Tensor, -1),
    };
  });
  return rotation(x);
}

/** Large enough that exp of it is zero in float32, small enough to stay finite when added to a score. */
const masked = -1e9;

/** 0 where a key may be seen, a large negative number elsewhere. @param allowed bool */
export const maskBias = (allowed: Tensor): Tensor => tf.cast(tf.logicalNot(allowed), 'float32').mul(masked);

/**
 * Scaled dot-product attention in which the query heads of one key head are rows of one matrix.
 *
 * @param queries [batch, kvHeads, group * time, headDim]
 * @param keys, values [batch, kvHeads, keyTime, headDim]
 * @param bias broadcast against [batch, kvHeads, group * time, keyTime]
 */
export function attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor): Tensor {
  const width = queries.shape.at(-1) as number;
  const scores = tf.matMul(queries.mul(1 / Math.sqrt(width)), keys, false, true).add(bias);
  return tf.matMul(tf.softmax(scores), values);
}
