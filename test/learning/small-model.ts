import type { AdapterShape, Parameter } from '../../learning/tuning/parameters.ts';
import type { DecoderConfig, Gpt2Config } from '../../learning/decoder/config.ts';
import { initialWeights } from '../../learning/decoder/weights.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';

/** Grouped queries and an untied head, so that no special case hides. */
export const smallConfig: DecoderConfig = {
  family: 'llama',
  dim: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  hidden: 24,
  vocab: 40,
  context: 32,
  ropeTheta: 10_000,
  rmsEps: 1e-5,
  tied: false,
};

export const smallGpt2: Gpt2Config = {
  family: 'gpt2',
  dim: 16,
  layers: 2,
  heads: 4,
  kvHeads: 4,
  hidden: 24,
  vocab: 40,
  context: 32,
  normEps: 1e-5,
  activation: 'gelu-tanh',
  tied: true,
};

export const smallAdapter: AdapterShape & { kind: 'lora' } = {
  kind: 'lora',
  rank: 3,
  alpha: 6,
  targets: ['q', 'k', 'v', 'o', 'gate', 'up', 'down'],
  classes: 2,
};

/** Weights larger than at initialisation, so that attention and gates do something. */
export function smallWeights(config: DecoderConfig = smallConfig): Record<string, Tensor> {
  const stream = seededStream(5, 'test weights');
  return initialWeights(config, (out) => stream.fillGaussian(out, 0.3));
}

/** Random values for every trained parameter, zero nowhere. */
export function randomAdapter(parameters: readonly Parameter[], seed = 6): Record<string, Float32Array> {
  const stream = seededStream(seed, 'test adapter');
  return Object.fromEntries(
    parameters.map(({ name, shape }) => {
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
      stream.fillGaussian(values, 0.2);
      return [name, values];
    }),
  );
}

export const adapterTensors = (
  parameters: readonly Parameter[],
  values: Record<string, Float32Array>,
): Record<string, Tensor> =>
  Object.fromEntries(parameters.map(({ name, shape }) => [name, tf.tensor(values[name] as Float32Array, shape)]));
