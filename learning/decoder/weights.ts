/** @file A decoder's weights: a record of tensors under Hugging Face names. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { ownedTensor, tf, type Tensor } from '../tensorflow.ts';
import { linearModule, weightShapes, type DecoderConfig } from './config.ts';

export type Weights = Readonly<Record<string, Tensor>>;

const invalid = (message: string): never => {
  throw new EpsilonflowError('MODEL_INVALID', message, {
    hint: 'Configuration and weights do not belong together: fetch or write the model again.',
  });
};

export function weight(weights: Weights, name: string): Tensor {
  return weights[name] ?? invalid(`The model has no weight ${name}.`);
}

/**
 * Weights of a new model: normal with standard deviation 0.02 (GPT-2, Radford et al. 2019), divided by sqrt(2 layers)
 * where a block writes to the residual stream; norms' gains are ones, biases zeros.
 *
 * @param fillNormal fills its argument with independent standard normal numbers.
 */
export function initialWeights(
  config: DecoderConfig,
  fillNormal: (out: Float32Array, standardDeviation: number) => void,
): Record<string, Tensor> {
  const residual = (['o', 'down'] as const).map((name) => `${linearModule(config, name)}.weight`);
  const entries = Object.entries(weightShapes(config)).map(([name, shape]): [string, Tensor] => {
    if (shape.length === 1) return [name, name.endsWith('.bias') ? tf.zeros(shape) : tf.ones(shape)];
    const scale = residual.some((suffix) => name.endsWith(suffix)) ? 1 / Math.sqrt(2 * config.layers) : 1;
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    fillNormal(values, 0.02 * scale);
    return [name, ownedTensor(values, shape)];
  });
  return Object.fromEntries(entries);
}

/** Checks names and shapes. @throws EpsilonflowError MODEL_INVALID naming the first weight that is missing or wrong. */
export function checkShapes(
  shapes: Readonly<Record<string, readonly number[]>>,
  weights: Readonly<Record<string, { shape: readonly number[] }>>,
): void {
  for (const [name, shape] of Object.entries(shapes)) {
    const found = weights[name]?.shape ?? invalid(`The model has no weight ${name}.`);
    if (found.join() !== shape.join()) {
      const [is, should] = [found, shape].map((sizes) => `[${sizes.join(', ')}]`);
      invalid(`Weight ${name} has shape ${is}; the configuration says ${should}.`);
    }
  }
}

/** As `checkShapes`, of a decoder. */
export const checkWeights = (
  config: DecoderConfig,
  weights: Readonly<Record<string, { shape: readonly number[] }>>,
): void => checkShapes(weightShapes(config), weights);
