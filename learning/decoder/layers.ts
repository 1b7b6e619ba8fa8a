/** @file Building blocks of decoders. Activations between blocks are flat: [rows, width], rows = batch * time. */

import { tf, type Tensor } from '../tensorflow.ts';

/** x / rms(x) over the last axis (Zhang and Sennrich 2019), before the gain. */
export const rmsNorm = (x: Tensor, epsilon: number): Tensor => x.mul(x.square().mean(-1, true).add(epsilon).rsqrt());

/** (x - mean) / standard deviation over the last axis (Ba et al. 2016, arXiv:1607.06450), before gain and bias. */
export function layerNorm(x: Tensor, epsilon: number): Tensor {
  const centred = x.sub(x.mean(-1, true)) as Tensor;
  return rmsNorm(centred, epsilon);
}

/** x [rows, in] times the transpose of weight [out, in]. */
export const linear = (x: Tensor, matrix: Tensor): Tensor => tf.matMul(x, matrix, false, true);

/** silu(gate) * up (Shazeer 2020). */
export const swiglu = (gate: Tensor, up: Tensor): Tensor => gate.mul(gate.sigmoid()).mul(up);

/** x times the normal distribution function of x (Hendrycks and Gimpel 2016, arXiv:1606.08415). */
export const gelu = (x: Tensor): Tensor => x.mul(x.mul(Math.SQRT1_2).erf().add(1)).mul(0.5);

/** As `gelu`, with a tanh in place of the distribution function. */
export const geluTanh = (x: Tensor): Tensor => {
  const inner = x.add(x.mul(x).mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI));
  return x.mul(inner.tanh().add(1)).mul(0.5);
};

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
