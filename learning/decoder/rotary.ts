/** @file Rotary positions (Su et al. 2021, arXiv:2104.09864) and how they are scaled to longer contexts. */

import { tf, type Tensor } from '../tensorflow.ts';
import type { RopeScaling } from './config.ts';
import { withOwnGradient } from './own-gradient.ts';

export interface RotaryTables {
  /** Broadcast against [batch, time, heads, headDim / 2]. */
  cos: Tensor;
  sin: Tensor;
}

export interface RotaryOptions {
  /** Of a head. */
  width: number;
  theta: number;
  scaling?: RopeScaling | undefined;
}

/** The number between 0 and 1 that is nearest. */
const clamped = (x: Tensor): Tensor => tf.minimum(1, tf.maximum(0, x));

/** Pair, not rounded, that turns `rotations` times within `context` positions (Peng et al. 2023, section 3.2). */
const pairOf = (rotations: number, { width, theta }: RotaryOptions, context: number): number =>
  (width * Math.log(context / (2 * Math.PI * rotations))) / (2 * Math.log(theta));

/** Frequencies [width / 2] in radians a position, computed by tensors: they differ, so they can't be constants. */
function frequenciesOf(options: RotaryOptions): Tensor {
  const { width, theta, scaling } = options;
  const pairs = tf.range(0, width / 2, 1, 'float32') as Tensor;
  const plain = pairs.mul((-2 * Math.log(theta)) / width).exp() as Tensor;
  /** The share of each frequency that stays as it is; the rest is divided by the factor. */
  const mixed = (kept: Tensor, factor: number): Tensor => plain.mul(kept.add(tf.sub(1, kept).div(factor)));
  if (scaling === undefined) return plain;
  if (scaling.kind === 'linear') return plain.div(scaling.factor);
  if (scaling.kind === 'llama3') {
    const { factor, lowFrequency, highFrequency, originalContext } = scaling;
    const turns = plain.mul(originalContext / (2 * Math.PI));
    return mixed(clamped(turns.sub(lowFrequency).div(highFrequency - lowFrequency)), factor);
  }
  const { factor, originalContext, betaFast, betaSlow, truncate } = scaling;
  const fast = pairOf(betaFast, options, originalContext);
  const slow = pairOf(betaSlow, options, originalContext);
  const from = Math.max(0, truncate ? Math.floor(fast) : fast);
  const to = Math.min(width - 1, truncate ? Math.ceil(slow) : slow);
  const ramp = clamped(pairs.sub(from).div(from === to ? 0.001 : to - from));
  return mixed(tf.sub(1, ramp), factor);
}

/**
 * Cosines and sines of angles position * frequency, where that of pair i is theta^(-2i / width) before scaling.
 *
 * @param positions [1, time] or [batch, 1], float32
 */
export function rotaryTables(positions: Tensor, options: RotaryOptions): RotaryTables {
  const [rows, columns] = positions.shape as [number, number];
  const angles = positions
    .reshape([-1, 1])
    .mul(frequenciesOf(options))
    .reshape([rows, columns, 1, options.width / 2]);
  const [cos, sin] = [angles.cos(), angles.sin()];
  if (options.scaling?.kind !== 'yarn' || options.scaling.attentionFactor === 1) return { cos, sin };
  const { attentionFactor } = options.scaling;
  return { cos: cos.mul(attentionFactor), sin: sin.mul(attentionFactor) };
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
export const rotate = (x: Tensor, { cos, sin }: RotaryTables): Tensor =>
  withOwnGradient([x], {
    forward: (x) => ({ value: rotatePairs(x, cos, sin, 1), saved: [cos, sin] }),
    backward: (dy, [cos, sin]) => [rotatePairs(dy, cos, sin, -1)],
  });
