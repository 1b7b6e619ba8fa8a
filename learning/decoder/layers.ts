/** @file Building blocks of decoders. Activations between blocks are flat: [rows, width], rows = batch * time. */

import { tf, type Tensor } from '../tensorflow.ts';
import { withOwnGradient } from './own-gradient.ts';

/** Sums of rows: [rows, width] -> [rows, 1]. By a product, since XLA takes several times as long for a reduction. */
export const rowSums = (x: Tensor): Tensor => tf.matMul(x, tf.ones([x.shape[1] as number, 1]));

/** x / rms(x) over the last axis (Zhang and Sennrich 2019), before the gain. @param x [rows, width] */
export function rmsNorm(x: Tensor, epsilon: number): Tensor {
  const width = x.shape[1] as number;
  return withOwnGradient([x], {
    forward(x) {
      const inverse = rowSums(x.square()).div(width).add(epsilon).rsqrt() as Tensor;
      return { value: x.mul(inverse) as Tensor, saved: [x, inverse] };
    },
    backward(dy, [x, inverse]) {
      const along = rowSums(dy.mul(x)).mul(inverse.square()).div(width);
      return [dy.sub(x.mul(along)).mul(inverse)];
    },
  });
}

/** (x - mean) / standard deviation over the last axis (Ba et al. 2016, arXiv:1607.06450), before gain and bias. */
export function layerNorm(x: Tensor, epsilon: number): Tensor {
  const centred = x.sub(rowSums(x).div(x.shape[1] as number)) as Tensor;
  return rmsNorm(centred, epsilon);
}

/** x [rows, in] times the transpose of weight [out, in]. */
export const linear = (x: Tensor, matrix: Tensor): Tensor => tf.matMul(x, matrix, false, true);

/**
 * silu(gate) * up (Shazeer 2020). For the gradient the sigmoid is computed again, as a hyperbolic tangent: kept from the
 * forward pass, which a compiler does of equal terms, it would take as much memory as `gate`.
 */
export const swiglu = (gate: Tensor, up: Tensor): Tensor =>
  withOwnGradient([gate, up], {
    forward: (gate, up) => ({ value: gate.mul(gate.sigmoid()).mul(up) as Tensor, saved: [gate, up] }),
    backward(dy, [gate, up]) {
      const sigmoid = gate.mul(0.5).tanh().mul(0.5).add(0.5);
      const silu = gate.mul(sigmoid);
      return [dy.mul(up).mul(sigmoid.add(silu.mul(tf.sub(1, sigmoid)))), dy.mul(silu)];
    },
  });

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
 * Transpose of wide [..., rows, width] times narrow [..., rows, less]. The narrow one is taken as the left factor: a
 * transposed left factor is copied.
 */
const transposedProduct = (wide: Tensor, narrow: Tensor): Tensor =>
  tf.matMul(narrow, wide, true, false).transpose([0, 1, 3, 2]) as Tensor;

/**
 * Scaled dot-product attention in which the query heads of one key head are rows of one matrix.
 *
 * @param queries [batch, kvHeads, group * time, headDim]
 * @param keys, values [batch, kvHeads, keyTime, headDim]
 * @param bias broadcast against [batch, kvHeads, group * time, keyTime]
 */
export function attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor): Tensor {
  const scale = 1 / Math.sqrt(queries.shape.at(-1) as number);
  return withOwnGradient([queries, keys, values], {
    forward(queries, keys, values) {
      const scaled = queries.mul(scale) as Tensor;
      const scores = tf.matMul(scaled, keys, false, true).add(bias) as Tensor;
      // The softmax is divided by its sums after the product, where rows are shorter.
      const exponentials = scores.sub(scores.max(-1, true)).exp() as Tensor;
      const inverse = tf.div(1, exponentials.sum(-1, true)) as Tensor;
      const value = tf.matMul(exponentials, values).mul(inverse) as Tensor;
      return { value, saved: [scaled, keys, values, exponentials, inverse, value] };
    },
    backward(dy, [scaled, keys, values, exponentials, inverse, value]) {
      const shares = dy.mul(inverse) as Tensor;
      const mean = shares.mul(value).sum(-1, true);
      const scoresGradient = exponentials.mul(tf.matMul(shares, values, false, true).sub(mean)) as Tensor;
      return [
        tf.matMul(scoresGradient, keys).mul(scale),
        transposedProduct(scoresGradient, scaled),
        transposedProduct(exponentials, shares),
      ];
    },
  });
}
