/** @file Models in the formats that are known: the one door to their weights, tokenizers and digests. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { DecoderConfig } from '../decoder/config.ts';
import { checkWeights } from '../decoder/weights.ts';
import { makeTokenizer, type Tokenizer } from '../tokenizer/index.ts';
import type { TokenizerDefinition } from '../tokenizer/definitions.ts';
import { letGo } from '../host-memory.ts';
import type { Tensor } from '../tensorflow.ts';
import { readGgufTokenizer } from './gguf-tokenizer.ts';
import { readGguf } from './gguf.ts';
import { readJsonFile } from './json-reader.ts';
import { readLlama2cTokenizer } from './llama2c-tokenizer.ts';
import { readLlama2c } from './llama2c.ts';
import { formatOf, tokenizerBeside, type ModelFormat } from './model-digest.ts';
import { readFolder, toTensors } from './model-folder.ts';
import type { HostTensors } from './safetensors.ts';

export interface Model {
  config: DecoderConfig;
  /** Under Hugging Face names. Tensors that the caller disposes. */
  weights: Record<string, Tensor>;
}

interface Format {
  weights(path: string): Promise<{ config: DecoderConfig; weights: HostTensors }>;
  tokenizer(path: string): Promise<TokenizerDefinition>;
}

const gguf: Format = {
  weights: readGguf,
  tokenizer: readGgufTokenizer,
};

const llama2c: Format = {
  weights: readLlama2c,
  tokenizer: (path) => readLlama2cTokenizer(tokenizerBeside(path)),
};

const folder: Format = {
  weights: readFolder,
  async tokenizer(path) {
    const [definition, config] = await Promise.all(
      ['tokenizer.json', 'tokenizer_config.json'].map((name) => readJsonFile(join(path, name))),
    );
    return { definition: definition!, config: config! };
  },
};

const formats: Record<ModelFormat, Format> = { folder, gguf, llama2c };

const formatAt = async (path: string): Promise<Format> => formats[await formatOf(path)];

/**
 * A model: a folder in Hugging Face layout, a GGUF file, or a checkpoint of llama2.c (`.bin`).
 *
 * @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID when a file is damaged or the architecture is not known.
 */
export async function readModel(path: string): Promise<Model> {
  const { config, weights: host } = await (await formatAt(path)).weights(path);
  checkWeights(config, host);
  const weights = toTensors(host);
  letGo(Object.values(host).reduce((sum, { values }) => sum + values.byteLength, 0));
  return { config, weights };
}

/**
 * The tokenizer of a model: `tokenizer.json` of a folder, the one inside a GGUF file, `tokenizer.bin` beside a checkpoint
 * of llama2.c. A missing start token is replaced by the end-of-text token.
 *
 * @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID when it can't be read, is of a kind that is not known, or names
 *   no end-of-text token
 */
export async function readTokenizer(path: string): Promise<Tokenizer> {
  return makeTokenizer(path, await (await formatAt(path)).tokenizer(path));
}

/** Writes the tokenizer of a model into a model folder. */
export async function copyTokenizer(path: string, directory: string): Promise<void> {
  const { definition, config } = await (await formatAt(path)).tokenizer(path);
  for (const [name, value] of Object.entries({ tokenizer: definition, tokenizer_config: config })) {
    await writeFile(join(directory, `${name}.json`), `${JSON.stringify(value)}\n`);
  }
}
