/**
 * @file What fine-tuning trains: LoRA matrices (Hu et al. 2021) and, with class conditioning, two vectors and an output
 * bias a class. Each kind is a clipping group of its own under DP.
 */

import {
  linearModule,
  linearNames,
  linearPath,
  linearShape,
  type DecoderConfig,
  type LinearName,
} from '../decoder/config.ts';

export interface AdapterShape {
  rank: number;
  /** The low-rank product is scaled by alpha / rank. */
  alpha: number;
  targets: readonly LinearName[];
  /** Number of classes with vectors and bias of their own; 0 without class conditioning. */
  classes: number;
}

/** `lora`: low-rank matrices; `vectors`: class vectors; `bias`: class output biases. */
export type ParameterGroup = 'lora' | 'vectors' | 'bias';

export interface Parameter {
  name: string;
  shape: number[];
  group: ParameterGroup;
}

export const classInput = 'class_input_vectors';
export const classOutput = 'class_output_vectors';
export const classBias = 'class_output_bias';

/** Name in PEFT files: `base_model.model.` + module + `.lora_A.weight`. A is [rank, in], B is [out, rank]. */
export const loraName = (module: string, matrix: 'A' | 'B'): string =>
  `base_model.model.${module}.lora_${matrix}.weight`;

/** Every trained parameter in a fixed order. @throws EpsilonflowError MODEL_INVALID for a target that the family lacks */
export function adapterParameters(config: DecoderConfig, adapter: AdapterShape): Parameter[] {
  const parameters: Parameter[] = [];
  for (const target of adapter.targets) linearModule(config, target);
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of linearNames(config).filter((name) => adapter.targets.includes(name))) {
      const [outputs, inputs] = linearShape(config, linear);
      const path = linearPath(config, layer, linear);
      parameters.push({ name: loraName(path, 'A'), shape: [adapter.rank, inputs], group: 'lora' });
      parameters.push({ name: loraName(path, 'B'), shape: [outputs, adapter.rank], group: 'lora' });
    }
  }
  if (adapter.classes > 0) {
    parameters.push({ name: classInput, shape: [adapter.classes, config.dim], group: 'vectors' });
    parameters.push({ name: classOutput, shape: [adapter.classes, config.dim], group: 'vectors' });
    parameters.push({ name: classBias, shape: [adapter.classes, config.vocab], group: 'bias' });
  }
  return parameters;
}

export const sizeOf = ({ shape }: { shape: readonly number[] }): number => shape.reduce((a, b) => a * b, 1);

/** Values of the trained parameters in host memory, by name. */
export type AdapterValues = Record<string, Float32Array>;

/**
 * Values before training: A uniform in ±1/sqrt(in) as PEFT draws it, everything else zero, so that the adapted model
 * starts as the base model.
 *
 * @param uniform independent numbers in [0, 1)
 */
export function initialAdapter(parameters: readonly Parameter[], uniform: () => number): AdapterValues {
  return Object.fromEntries(
    parameters.map((parameter) => {
      const values = new Float32Array(sizeOf(parameter));
      if (parameter.name.endsWith('.lora_A.weight')) {
        const bound = 1 / Math.sqrt(parameter.shape[1] as number);
        for (let index = 0; index < values.length; index++) values[index] = (2 * uniform() - 1) * bound;
      }
      return [parameter.name, values];
    }),
  );
}
