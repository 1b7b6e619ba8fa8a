/**
 * @file Optimisers, on host memory: adapters are small, and a state that lies in plain arrays is easy to digest, to store
 * and to repeat bit for bit. They see noised gradients only, so what they do is post-processing.
 */

import type { AdamOptimizer, Optimizer } from '../../schemas/step-params.ts';
import type { ParameterGroup, TrainedValues, TunedShape } from '../tuning/parameters.ts';

/** Adam as it is used where a spec doesn't choose. */
export const usualAdam: AdamOptimizer = { kind: 'adam', beta1: 0.9, beta2: 0.98, epsilon: 1e-8 };

/**
 * Learning rate of class rows, and of a classifier's head, over that of the method, such that it is about the same at
 * the methods' usual rates: they start at zero and have to move far within few steps.
 */
const classRates: Readonly<Record<TunedShape['kind'], { vectors: number; bias: number; head: number }>> = {
  lora: { vectors: 4, bias: 5, head: 1 },
  prompt: { vectors: 0.2, bias: 0.25, head: 0.05 },
  full: { vectors: 40, bias: 50, head: 10 },
};

/** Learning rate of a group over that of the method's schedule. */
export const rateMultiple = ({ kind }: Pick<TunedShape, 'kind'>, group: ParameterGroup): number =>
  group === 'vectors' || group === 'bias' || group === 'head' ? classRates[kind][group] : 1;

/** Whether weight decay pulls at a parameter: at matrices, not at gains, biases and what belongs to a class. */
export const decays = ({ shape, group }: { shape: readonly number[]; group: ParameterGroup }): boolean =>
  shape.length > 1 && group !== 'vectors' && group !== 'bias' && group !== 'head';

/** What an optimiser remembers: Adam's moments; SGD's velocity is `first`, its `second` stays zero. */
export interface OptimiserState {
  first: TrainedValues;
  second: TrainedValues;
}

export const zeroState = (values: TrainedValues): OptimiserState => {
  const zeros = (): TrainedValues =>
    Object.fromEntries(Object.entries(values).map(([name, array]) => [name, new Float32Array(array.length)]));
  return { first: zeros(), second: zeros() };
};

/** One parameter and what the optimiser remembers of it, changed in place. */
export interface Optimised {
  values: Float32Array;
  first: Float32Array;
  second: Float32Array;
}

export interface UpdateOptions {
  /** From 0. */
  step: number;
  rate: number;
  /** Whether weight decay pulls at this parameter. */
  decays: boolean;
}

/** One update of one parameter. */
export function update(
  optimizer: Optimizer,
  parameter: Optimised,
  gradient: Float64Array,
  options: UpdateOptions,
): void {
  switch (optimizer.kind) {
    case 'adamw':
      // Decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101, with the decay times the rate as PyTorch has it).
      if (options.decays) shrink(parameter.values, 1 - options.rate * optimizer.weightDecay);
      return adamUpdate(optimizer, parameter, gradient, options);
    case 'adam':
      return adamUpdate(optimizer, parameter, gradient, options);
    case 'sgd':
      return sgdUpdate(optimizer.momentum, parameter, gradient, options.rate);
  }
}

function shrink(values: Float32Array, factor: number): void {
  for (let index = 0; index < values.length; index++) values[index] = (values[index] as number) * factor;
}

/** Kingma and Ba 2015, arXiv:1412.6980. */
function adamUpdate(
  { beta1, beta2, epsilon }: Pick<AdamOptimizer, 'beta1' | 'beta2' | 'epsilon'>,
  { values, first, second }: Optimised,
  gradient: Float64Array,
  { step, rate }: UpdateOptions,
): void {
  const correction1 = 1 - beta1 ** (step + 1);
  const correction2 = 1 - beta2 ** (step + 1);
  for (let index = 0; index < values.length; index++) {
    const slope = gradient[index] as number;
    const mean = beta1 * (first[index] as number) + (1 - beta1) * slope;
    const square = beta2 * (second[index] as number) + (1 - beta2) * slope * slope;
    first[index] = mean;
    second[index] = square;
    values[index] =
      (values[index] as number) - (rate * (mean / correction1)) / (Math.sqrt(square / correction2) + epsilon);
  }
}

/** Stochastic gradient descent; velocity = momentum * velocity + gradient, as PyTorch has it. */
function sgdUpdate(momentum: number, { values, first }: Optimised, gradient: Float64Array, rate: number): void {
  for (let index = 0; index < values.length; index++) {
    const slope = gradient[index] as number;
    const velocity = momentum === 0 ? slope : momentum * (first[index] as number) + slope;
    if (momentum !== 0) first[index] = velocity;
    values[index] = (values[index] as number) - rate * velocity;
  }
}
