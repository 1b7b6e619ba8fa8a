/**
 * @file What fine-tuning trains: LoRA matrices (Hu et al. 2021), the embeddings of a prompt (Lester et al. 2021), or all
 * weights; with class conditioning also two vectors and an output bias a class. Each kind is a clipping group of its own
 * under DP.
 */

import { EpsilonflowError } from '../../schemas/errors.ts';
import {
  headName,
  linearModule,
  linearNames,
  linearPath,
  linearShape,
  weightShapes,
  type LinearName,
  type ModelConfig,
} from '../decoder/config.ts';

export interface LoraShape {
  kind: 'lora';
  rank: number;
  /** The low-rank product is scaled by alpha / rank. */
  alpha: number;
  targets: readonly LinearName[];
}

export interface PromptShape {
  kind: 'prompt';
  /** Positions in front of the start token. */
  length: number;
}

export interface FullShape {
  kind: 'full';
}

interface Conditioned {
  /** Number of classes with vectors and bias of their own; 0 without class conditioning. */
  classes: number;
  /** Of a classifier: a linear layer from hidden states to so many classes. */
  head?: { classes: number };
}

/** What is trained beside a base model that stays as it is. */
export type AdapterShape = (LoraShape | PromptShape) & Conditioned;

/** What is trained. */
export type TunedShape = AdapterShape | (FullShape & Conditioned);

/** `weights`: those of the model; `vectors`, `bias`: of the classes; `head`: of a classifier. */
export type ParameterGroup = 'lora' | 'prompt' | 'weights' | 'vectors' | 'bias' | 'head';

export interface Parameter {
  name: string;
  shape: number[];
  group: ParameterGroup;
}

export const classInput = 'class_input_vectors';
export const classOutput = 'class_output_vectors';
export const classBias = 'class_output_bias';

export const headWeight = 'score.weight';
export const headBias = 'score.bias';

/** Name in PEFT files. [length, dim] */
export const promptName = 'prompt_embeddings';

/** Name in PEFT files: `base_model.model.` + module + `.lora_A.weight`. A is [rank, in], B is [out, rank]. */
export const loraName = (module: string, matrix: 'A' | 'B'): string =>
  `base_model.model.${module}.lora_${matrix}.weight`;

/** Whether a parameter is the second matrix of a pair. */
export const isLoraUp = ({ name }: { name: string }): boolean => name.endsWith('.lora_B.weight');

/** The adapted linear layers, in the order of their parameters. */
export const loraPlaces = (config: ModelConfig, { targets }: LoraShape): { path: string; linear: LinearName }[] =>
  Array.from({ length: config.layers }, (_, layer) =>
    linearNames(config)
      .filter((name) => targets.includes(name))
      .map((linear) => ({ path: linearPath(config, layer, linear), linear })),
  ).flat();

function loraParameters(config: ModelConfig, lora: LoraShape): Parameter[] {
  for (const target of lora.targets) linearModule(config, target);
  return loraPlaces(config, lora).flatMap(({ path, linear }): Parameter[] => {
    const [outputs, inputs] = linearShape(config, linear);
    return [
      { name: loraName(path, 'A'), shape: [lora.rank, inputs], group: 'lora' },
      { name: loraName(path, 'B'), shape: [outputs, lora.rank], group: 'lora' },
    ];
  });
}

/** Shapes of the model's weights that have a part in the loss: a classifier has no use for an output head. */
export const tunedWeights = (config: ModelConfig, { head }: Pick<TunedShape, 'head'>): Record<string, number[]> =>
  Object.fromEntries(Object.entries(weightShapes(config)).filter(([name]) => !head || name !== headName));

function methodParameters(config: ModelConfig, tuned: TunedShape): Parameter[] {
  switch (tuned.kind) {
    case 'lora':
      return loraParameters(config, tuned);
    case 'prompt':
      return [{ name: promptName, shape: [tuned.length, config.dim], group: 'prompt' }];
    case 'full':
      return Object.entries(tunedWeights(config, tuned)).map(([name, shape]) => ({ name, shape, group: 'weights' }));
  }
}

/** Every trained parameter in a fixed order. @throws EpsilonflowError MODEL_INVALID for a target that the family lacks */
export function trainedParameters(config: ModelConfig, tuned: TunedShape): Parameter[] {
  const parameters = methodParameters(config, tuned);
  if (tuned.classes > 0) {
    parameters.push({ name: classInput, shape: [tuned.classes, config.dim], group: 'vectors' });
    parameters.push({ name: classOutput, shape: [tuned.classes, config.dim], group: 'vectors' });
    parameters.push({ name: classBias, shape: [tuned.classes, config.vocab], group: 'bias' });
  }
  if (tuned.head) {
    const { classes } = tuned.head;
    parameters.push({ name: headWeight, shape: [classes, config.dim], group: 'head' });
    parameters.push({ name: headBias, shape: [classes], group: 'head' });
  }
  return parameters;
}

export const sizeOf = ({ shape }: { shape: readonly number[] }): number => shape.reduce((a, b) => a * b, 1);

/** Values of the trained parameters in host memory, by name. */
export type TrainedValues = Record<string, Float32Array>;

/** @throws EpsilonflowError STEP_FAILED when training ran away: such weights say nothing */
export function checkFinite(values: TrainedValues): void {
  if (Object.values(values).every((array) => array.every(Number.isFinite))) return;
  throw new EpsilonflowError('STEP_FAILED', 'Training ended with weights that are not finite.', {
    hint: 'Lower the learning rate.',
  });
}

/**
 * Values before training. LoRA's A is uniform in ±1/sqrt(in) as PEFT draws it, B, class rows and a classifier's head are zero, so
 * that the adapted model starts as the base model.
 *
 * @param given values of prompt or weights, by name
 * @param uniform independent numbers in [0, 1)
 */
export function initialValues(
  parameters: readonly Parameter[],
  given: Readonly<Record<string, Float32Array>>,
  uniform: () => number,
): TrainedValues {
  return Object.fromEntries(
    parameters.map((parameter) => {
      const { name, group, shape } = parameter;
      if (group === 'prompt' || group === 'weights') return [name, given[name]!.slice()];
      const values = new Float32Array(sizeOf(parameter));
      if (name.endsWith('.lora_A.weight')) {
        const bound = 1 / Math.sqrt(shape[1] as number);
        for (let index = 0; index < values.length; index++) values[index] = (2 * uniform() - 1) * bound;
      }
      return [name, values];
    }),
  );
}
