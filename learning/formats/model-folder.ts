/**
 * @file Model folders in Hugging Face layout: `config.json` and weights in `model.safetensors`, or in several files of
 * which `model.safetensors.index.json` tells what is where.
 */

import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { headName, linearModule, linearNames, weightShapes, type DecoderConfig } from '../decoder/config.ts';
import { checkWeights, type Weights } from '../decoder/weights.ts';
import { ownedTensor, type Tensor } from '../tensorflow.ts';
import { configJson, parseConfig, type SpecialTokens } from './config-json.ts';
import { readJsonFile } from './json-reader.ts';
import { readSafetensors, writeSafetensors, type HostTensor, type HostTensors, type IsWanted } from './safetensors.ts';

export const toTensors = (host: HostTensors): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(host).map(([name, { shape, values }]) => [name, ownedTensor(values, shape)]));

export const toHost = (tensors: Weights): HostTensors =>
  Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [
      name,
      { shape: [...tensor.shape], values: tensor.dataSync() as Float32Array },
    ]),
  );

const indexName = 'model.safetensors.index.json';

/** Tensors of a folder's safetensors files. @throws EpsilonflowError MODEL_INVALID */
export async function readFolderTensors(directory: string, isWanted: IsWanted): Promise<HostTensors> {
  const names = await readdir(directory).catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_INVALID', `The model folder ${directory} cannot be read.`, {
      hint: 'Fetch it, and let this user read it.',
      cause,
    });
  });
  if (!names.includes(indexName)) return readSafetensors(join(directory, 'model.safetensors'), isWanted);
  const index = await readJsonFile(join(directory, indexName));
  const places = (index['weight_map'] ?? {}) as Record<string, string>;
  const tensors: HostTensors = {};
  for (const file of [...new Set(Object.values(places))].sort()) {
    const isHere = (name: string): boolean => places[name] === file && isWanted(name);
    Object.assign(tensors, await readSafetensors(join(directory, file), isHere));
  }
  for (const [name, file] of Object.entries(places)) {
    if (tensors[name] || !isWanted(name)) continue;
    throw new EpsilonflowError('MODEL_INVALID', `${join(directory, file)} lacks the weight ${name} of the index.`, {
      hint: 'Fetch the folder again: its files do not belong together.',
    });
  }
  return tensors;
}

/** [rows, columns] -> [columns, rows] */
function transposed({ shape, values }: HostTensor): HostTensor {
  const [rows, columns] = shape as [number, number];
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      turned[column * rows + row] = values[row * columns + column] as number;
    }
  }
  return { shape: [columns, rows], values: turned };
}

/** Whether files hold a weight as [in, out]: the linear layers of GPT-2's blocks (`Conv1D`). */
function isTurned(config: DecoderConfig): (name: string) => boolean {
  if (config.family !== 'gpt2') return () => false;
  const suffixes = linearNames(config).map((linear) => `.${linearModule(config, linear)}.weight`);
  return (name) => suffixes.some((suffix) => name.endsWith(suffix));
}

/** Tables that older versions of `transformers` stored beside the weights. */
const isBuffer = (name: string): boolean =>
  /\.rotary_emb\.inv_freq$/.test(name) || /\.attn\.(bias|masked_bias)$/.test(name);

/** Weights under the names and in the shapes of this decoder. @throws EpsilonflowError MODEL_INVALID for unknown ones */
function fromFolder(config: DecoderConfig, directory: string, tensors: HostTensors): HostTensors {
  const known = weightShapes(config);
  const turned = isTurned(config);
  const weights: HostTensors = {};
  for (const [stored, tensor] of Object.entries(tensors)) {
    // The first files of GPT-2 hold the body alone.
    const name = config.family === 'gpt2' && `transformer.${stored}` in known ? `transformer.${stored}` : stored;
    if (!(name in known)) {
      throw new EpsilonflowError('MODEL_INVALID', `The weight ${name} in ${directory} is unknown.`, {
        hint: 'The model is built otherwise than its config.json says, or than is supported.',
      });
    }
    weights[name] = turned(name) ? transposed(tensor) : tensor;
  }
  return weights;
}

/** @throws EpsilonflowError MODEL_INVALID when a file is missing or damaged, or the architecture is not known. */
export async function readFolder(directory: string): Promise<{ config: DecoderConfig; weights: HostTensors }> {
  const file = join(directory, 'config.json');
  const config = parseConfig(file, await readJsonFile(file));
  const isWanted = (name: string): boolean => !isBuffer(name) && !(config.tied && name === headName);
  return { config, weights: fromFolder(config, directory, await readFolderTensors(directory, isWanted)) };
}

/** As `writeModelFolder`, of weights in host memory that fit the configuration. */
export async function writeHostModel(
  directory: string,
  config: DecoderConfig,
  weights: HostTensors,
  tokens: SpecialTokens,
): Promise<void> {
  const turned = isTurned(config);
  const host = Object.entries(weights).map(([name, tensor]) => [name, turned(name) ? transposed(tensor) : tensor]);
  await writeFile(join(directory, 'config.json'), `${JSON.stringify(configJson(config, tokens), null, 2)}\n`);
  await writeSafetensors(join(directory, 'model.safetensors'), Object.fromEntries(host) as HostTensors);
}

/** Writes `config.json` and `model.safetensors`; tokenizer files are the caller's. */
export async function writeModelFolder(
  directory: string,
  config: DecoderConfig,
  weights: Weights,
  tokens: SpecialTokens,
): Promise<void> {
  checkWeights(config, weights);
  await writeHostModel(directory, config, toHost(weights), tokens);
}
