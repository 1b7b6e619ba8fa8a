/**
 * @file Folders of fine-tuned generators, as Python reads them: an adapter in PEFT's layout (`adapter_config.json`,
 * `adapter_model.safetensors`), or a whole model in Hugging Face layout (`config.json`, `model.safetensors`). Class
 * conditioning is in `conditioning.safetensors`, and what generation must know in `epsilonflow.json`.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { linearModule, linearNames, type DecoderConfig, type LinearName } from '../decoder/config.ts';
import type { SpecialTokens } from '../formats/config-json.ts';
import { readFolder, writeHostModel } from '../formats/model-folder.ts';
import { readSafetensors, writeSafetensors, type HostTensors } from '../formats/safetensors.ts';
import { trainedParameters, type AdapterShape, type TrainedValues, type TunedShape } from './parameters.ts';

export interface GeneratorDescription {
  method: TunedShape['kind'];
  /** Name of the dataset that it was trained on; part of a textual prefix. */
  dataset: string;
  /** Class names in label order; empty when the data have no label. */
  labels: string[];
  conditioning: 'prefix' | 'class-bias';
  /** Longest sequence in training: tokens after the start token, end-of-text included. */
  sequence: number;
  /** Name and digest of the base model. */
  base: { name: string; digest: string };
}

export interface Generator {
  tuned: TunedShape;
  description: GeneratorDescription;
  values: TrainedValues;
}

/** Words before a text that name its class: `[imdb] [positive]`. Encoded apart from the text; no loss on it. */
export const labelPrefix = (dataset: string, label: string | undefined): string =>
  label === undefined ? `[${dataset}]` : `[${dataset}] [${label}]`;

/** How PEFT names targets: `q_proj` of `self_attn.q_proj`; the whole where several end alike, as `attn.c_proj`. */
function moduleName(config: DecoderConfig, linear: LinearName): string {
  const last = (name: LinearName): string => linearModule(config, name).split('.').at(-1) as string;
  const alike = linearNames(config).filter((name) => last(name) === last(linear));
  return alike.length === 1 ? last(linear) : linearModule(config, linear);
}

const descriptionFile = 'epsilonflow.json';
const adapterConfigFile = 'adapter_config.json';
const conditioningFile = 'conditioning.safetensors';
const adapterFile = 'adapter_model.safetensors';

const writeJson = (file: string, value: unknown): Promise<void> =>
  writeFile(file, `${JSON.stringify(value, null, 2)}\n`);

/** `adapter_config.json` as PEFT writes it. */
function peftConfig(config: DecoderConfig, adapter: AdapterShape, base: string): Record<string, unknown> {
  const common = { task_type: 'CAUSAL_LM', base_model_name_or_path: base, inference_mode: true };
  if (adapter.kind === 'prompt') {
    return {
      peft_type: 'PROMPT_TUNING',
      ...common,
      num_virtual_tokens: adapter.length,
      token_dim: config.dim,
      num_layers: config.layers,
      num_attention_heads: config.heads,
      num_transformer_submodules: 1,
      prompt_tuning_init: 'RANDOM',
    };
  }
  return {
    peft_type: 'LORA',
    ...common,
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    lora_dropout: 0,
    target_modules: linearNames(config)
      .filter((name) => adapter.targets.includes(name))
      .map((name) => moduleName(config, name)),
    bias: 'none',
    // How PEFT knows that the base model holds its matrices as [in, out].
    fan_in_fan_out: config.family === 'gpt2',
  };
}

/** Writes the folder's files but for those of a whole model's tokenizer. */
export async function writeGenerator(
  directory: string,
  config: DecoderConfig,
  { tuned, description, values }: Generator,
  tokens: SpecialTokens,
): Promise<void> {
  const own: HostTensors = {};
  const conditioning: HostTensors = {};
  for (const { name, shape, group } of trainedParameters(config, tuned)) {
    const isClass = group === 'vectors' || group === 'bias';
    (isClass ? conditioning : own)[name] = { shape, values: values[name] as Float32Array };
  }
  if (tuned.kind === 'full') await writeHostModel(directory, config, own, tokens);
  else {
    await writeJson(join(directory, adapterConfigFile), peftConfig(config, tuned, description.base.name));
    await writeSafetensors(join(directory, adapterFile), own);
  }
  if (tuned.classes > 0) await writeSafetensors(join(directory, conditioningFile), conditioning);
  await writeJson(join(directory, descriptionFile), { version: 2, ...description });
}

async function readJson(file: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new EpsilonflowError('MODEL_INVALID', `${file} cannot be read as JSON.`, { cause });
  }
}

async function readShape(
  directory: string,
  config: DecoderConfig,
  description: GeneratorDescription,
): Promise<TunedShape> {
  const classes = description.conditioning === 'class-bias' ? description.labels.length : 0;
  if (description.method === 'full') return { kind: 'full', classes };
  const peft = await readJson(join(directory, adapterConfigFile));
  if (description.method === 'prompt') return { kind: 'prompt', length: peft['num_virtual_tokens'] as number, classes };
  const modules = peft['target_modules'] as string[];
  const targets = linearNames(config).filter((name) => modules.includes(moduleName(config, name)));
  return { kind: 'lora', rank: peft['r'] as number, alpha: peft['lora_alpha'] as number, targets, classes };
}

/**
 * Reads a folder that `writeGenerator` wrote, for a base model of the given shape.
 *
 * @throws EpsilonflowError MODEL_INVALID when a file is missing or does not fit the base model.
 */
export async function readGenerator(directory: string, config: DecoderConfig): Promise<Generator> {
  const description = (await readJson(join(directory, descriptionFile))) as unknown as GeneratorDescription;
  const tuned = await readShape(directory, config, description);
  const stored: HostTensors = {
    ...(tuned.kind === 'full'
      ? (await readFolder(directory)).weights
      : await readSafetensors(join(directory, adapterFile))),
    ...(tuned.classes > 0 ? await readSafetensors(join(directory, conditioningFile)) : {}),
  };
  const values: TrainedValues = {};
  for (const { name, shape } of trainedParameters(config, tuned)) {
    const tensor = stored[name];
    if (tensor?.shape.join() !== shape.join()) {
      throw new EpsilonflowError(
        'MODEL_INVALID',
        `The generator in ${directory} does not fit the base model: ${name}.`,
        {
          hint: 'Use the generator with the base model that it was trained on.',
        },
      );
    }
    values[name] = tensor.values;
  }
  return { tuned, description, values };
}
