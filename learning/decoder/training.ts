/** @file Training of all parameters without DP, for base models on public text: one compiled Adam step. */

import { compile, disposeTree, type CompiledFunction } from '../compile/index.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { weightShapes, type DecoderConfig } from './config.ts';
import { flatLogits } from './forward.ts';
import { crossEntropy } from './loss.ts';

export type TensorRecord = Record<string, Tensor>;

/** Weights and Adam's moments, all under the weights' names. */
export type TrainingState = {
  weights: TensorRecord;
  firstMoment: TensorRecord;
  secondMoment: TensorRecord;
};

export type PretrainInputs = {
  state: TrainingState;
  /** [batch, sequence + 1] int32, each in [0, vocab). */
  tokens: Tensor;
  /** [batch, sequence] float32: weight of predicting token t + 1 at position t. */
  mask: Tensor;
  /** Scalar. */
  learningRate: Tensor;
  /** Scalars 1 - beta1^step and 1 - beta2^step, steps counted from 1. */
  correction1: Tensor;
  correction2: Tensor;
};

export type PretrainOutputs = {
  state: TrainingState;
  /** Mean over the mask, nats a token. Scalar. */
  loss: Tensor;
  /** Norm of the whole gradient before clipping. Scalar. */
  gradientNorm: Tensor;
};

export interface PretrainOptions {
  batch: number;
  /** Tokens predicted a row. */
  sequence: number;
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  /** Decoupled (Loshchilov and Hutter 2019), on matrices only. */
  weightDecay?: number;
  /** Largest norm of the whole gradient. */
  clipNorm?: number;
}

const zerosLike = (config: DecoderConfig): TensorRecord =>
  Object.fromEntries(Object.entries(weightShapes(config)).map(([name, shape]) => [name, tf.zeros(shape) as Tensor]));

/** State before the first step; takes over the weights. */
export const initialTrainingState = (config: DecoderConfig, weights: TensorRecord): TrainingState => ({
  weights,
  firstMoment: zerosLike(config),
  secondMoment: zerosLike(config),
});

/** Mean next-token loss in nats over the mask. @param tokens [batch, time + 1] int32 @param mask [batch, time] */
export function meanLoss(config: DecoderConfig, weights: TensorRecord, tokens: Tensor, mask: Tensor): Tensor {
  const [batch, time] = mask.shape as [number, number];
  const inputs = tokens.slice([0, 0], [batch, time]);
  const targets = tokens.slice([0, 1], [batch, time]).reshape([batch * time]);
  const rows = crossEntropy(flatLogits(config, weights, inputs), targets, mask.reshape([batch * time]));
  return rows.sum().div(mask.sum().maximum(1));
}

/**
 * Compiles one step of AdamW: loss, gradient, clipping by the global norm, and the new state. The caller disposes the old
 * state after each call.
 */
export function compilePretrainStep(
  config: DecoderConfig,
  options: PretrainOptions,
): CompiledFunction<PretrainInputs, PretrainOutputs> {
  const { batch, sequence, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weightDecay = 0.1, clipNorm = 1 } = options;
  const names = Object.keys(weightShapes(config));
  const step = (inputs: PretrainInputs): PretrainOutputs => {
    const { state, tokens, mask, learningRate, correction1, correction2 } = inputs;
    const evaluate = tf.valueAndGrads((...list: Tensor[]) => {
      const weights = Object.fromEntries(names.map((name, index) => [name, list[index] as Tensor]));
      return meanLoss(config, weights, tokens, mask) as never;
    });
    const { value, grads } = evaluate(names.map((name) => state.weights[name] as Tensor));
    const gradientNorm = tf.addN(grads.map((gradient) => gradient.square().sum())).sqrt() as Tensor;
    const factor = tf.minimum(1, tf.div(clipNorm, gradientNorm.add(1e-6)));
    const next: TrainingState = { weights: {}, firstMoment: {}, secondMoment: {} };
    names.forEach((name, index) => {
      const weight = state.weights[name] as Tensor;
      const gradient = (grads[index] as Tensor).mul(factor);
      const first = (state.firstMoment[name] as Tensor).mul(beta1).add(gradient.mul(1 - beta1)) as Tensor;
      const second = (state.secondMoment[name] as Tensor).mul(beta2).add(gradient.square().mul(1 - beta2)) as Tensor;
      const update = first.div(correction1).div(second.div(correction2).sqrt().add(epsilon));
      const decayed = weight.rank > 1 && weightDecay > 0 ? update.add(weight.mul(weightDecay)) : update;
      next.weights[name] = weight.sub(decayed.mul(learningRate));
      next.firstMoment[name] = first;
      next.secondMoment[name] = second;
    });
    return { state: next, loss: value as Tensor, gradientNorm };
  };
  const example: PretrainInputs = {
    state: initialTrainingState(config, zerosLike(config)),
    tokens: tf.zeros([batch, sequence + 1], 'int32'),
    mask: tf.ones([batch, sequence]),
    learningRate: tf.scalar(1e-3),
    correction1: tf.scalar(0.1),
    correction2: tf.scalar(0.05),
  };
  try {
    return compile(step, example);
  } finally {
    disposeTree(example);
  }
}
