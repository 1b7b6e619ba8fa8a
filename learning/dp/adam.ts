/**
 * @file Adam (Kingma and Ba 2015) and the learning-rate schedule, on host memory: adapters are small, and a state that
 * lies in plain arrays is easy to digest, to store and to repeat bit for bit.
 */

import type { ParameterGroup, TrainedValues, TunedShape } from '../tuning/parameters.ts';

export const adam = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8 } as const;

/**
 * Learning rate of class rows over that of the method, such that it is about the same at the methods' usual rates: the
 * rows start at zero and have to move far within few steps.
 */
const classRates: Readonly<Record<TunedShape['kind'], { vectors: number; bias: number }>> = {
  lora: { vectors: 4, bias: 5 },
  prompt: { vectors: 0.2, bias: 0.25 },
  full: { vectors: 40, bias: 50 },
};

/** Learning rate of a group over that of the method's schedule. */
export const rateMultiple = ({ kind }: Pick<TunedShape, 'kind'>, group: ParameterGroup): number =>
  group === 'vectors' || group === 'bias' ? classRates[kind][group] : 1;

export interface OptimiserState {
  first: TrainedValues;
  second: TrainedValues;
}

export const zeroState = (values: TrainedValues): OptimiserState => {
  const zeros = (): TrainedValues =>
    Object.fromEntries(Object.entries(values).map(([name, array]) => [name, new Float32Array(array.length)]));
  return { first: zeros(), second: zeros() };
};

export interface Schedule {
  lr: number;
  /** Steps of linear rise. */
  warmup: number;
  /** Rate of the last step over the peak. */
  finalLr: number;
  steps: number;
}

/** Learning rate of a step (from 0): linear warm-up to `lr`, then linear to `lr * finalLr` at the last step. */
export function learningRate({ lr, warmup, finalLr, steps }: Schedule, step: number): number {
  if (step < warmup) return (lr * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - 1 - warmup));
  return lr * (1 - (1 - finalLr) * progress);
}

/**
 * One update in place of one parameter.
 *
 * @param step from 0
 */
export function adamUpdate(
  parameter: { values: Float32Array; first: Float32Array; second: Float32Array },
  gradient: Float64Array,
  step: number,
  rate: number,
): void {
  const { values, first, second } = parameter;
  const { beta1, beta2, epsilon } = adam;
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
