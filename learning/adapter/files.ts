/**
 * @file Adapter folders: `adapter_config.json` and `adapter_model.safetensors` as PEFT writes them, class conditioning in
 * `conditioning.safetensors`, and what generation must know in `epsilonflow.json`.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { linearModule, linearNames, type DecoderConfig, type LinearName } from '../decoder/config.ts';
import { readSafetensors, writeSafetensors, type HostTensors } from '../formats/safetensors.ts';
import { adapterParameters, type AdapterShape, type AdapterValues } from './parameters.ts';

export interface AdapterDescription {
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

export interface AdapterFolder {
  adapter: AdapterShape;
  description: AdapterDescription;
  values: AdapterValues;
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

const writeJson = (file: string, value: unknown): Promise<void> =>
  writeFile(file, `${JSON.stringify(value, null, 2)}\n`);

/** Writes the folder's files. */
export async function writeAdapter(directory: string, config: DecoderConfig, folder: AdapterFolder): Promise<void> {
  const { adapter, description, values } = folder;
  const files: Record<'lora' | 'conditioning', HostTensors> = { lora: {}, conditioning: {} };
  for (const { name, shape, group } of adapterParameters(config, adapter)) {
    files[group === 'lora' ? 'lora' : 'conditioning'][name] = { shape, values: values[name] as Float32Array };
  }
  await writeJson(join(directory, 'adapter_config.json'), {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: description.base.name,
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    lora_dropout: 0,
    target_modules: linearNames(config)
      .filter((name) => adapter.targets.includes(name))
      .map((name) => moduleName(config, name)),
    bias: 'none',
    // How PEFT knows that the base model holds its matrices as [in, out].
    fan_in_fan_out: config.family === 'gpt2',
    inference_mode: true,
  });
  await writeSafetensors(join(directory, 'adapter_model.safetensors'), files.lora);
  if (adapter.classes > 0) await writeSafetensors(join(directory, 'conditioning.safetensors'), files.conditioning);
  await writeJson(join(directory, 'epsilonflow.json'), { version: 1, ...description });
}

async function readJson(file: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new EpsilonflowError('MODEL_INVALID', `${file} cannot be read as JSON.`, { cause });
  }
}

/**
 * Reads a folder that `writeAdapter` wrote, for a base model of the given shape.
 *
 * @throws EpsilonflowError MODEL_INVALID when a file is missing or does not fit the base model.
 */
export async function readAdapter(directory: string, config: DecoderConfig): Promise<AdapterFolder> {
  const peft = await readJson(join(directory, 'adapter_config.json'));
  const description = (await readJson(join(directory, 'epsilonflow.json'))) as unknown as AdapterDescription;
  const modules = peft['target_modules'] as string[];
  const adapter: AdapterShape = {
    rank: peft['r'] as number,
    alpha: peft['lora_alpha'] as number,
    targets: linearNames(config).filter((name) => modules.includes(moduleName(config, name))),
    classes: description.conditioning === 'class-bias' ? description.labels.length : 0,
  };
  const stored: HostTensors = {
    ...(await readSafetensors(join(directory, 'adapter_model.safetensors'))),
    ...(adapter.classes > 0 ? await readSafetensors(join(directory, 'conditioning.safetensors')) : {}),
  };
  const values: AdapterValues = {};
  for (const { name, shape } of adapterParameters(config, adapter)) {
    const tensor = stored[name];
    if (tensor?.shape.join() !== shape.join()) {
      throw new EpsilonflowError('MODEL_INVALID', `The adapter in ${directory} does not fit the base model: ${name}.`, {
        hint: 'Use the adapter with the base model that it was trained on.',
      });
    }
    values[name] = tensor.values;
  }
  return { adapter, description, values };
}
