/** @file Models in the formats that are known: the one door to their weights, tokenizers and digests. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { EpsilonflowError } from '../../schemas/errors.ts';
import type { DecoderConfig } from '../decoder/config.ts';
import { checkWeights } from '../decoder/weights.ts';
import { makeTokenizer, type Tokenizer } from '../tokenizer/index.ts';
import type { TokenizerDefinition } from '../tokenizer/definitions.ts';
import type { Tensor } from '../tensorflow.ts';
import { readGgufTokenizer } from './gguf-tokenizer.ts';
import { readGguf } from './gguf.ts';
import { readJsonFile } from './json-reader.ts';
import { readLlama2cTokenizer } from './llama2c-tokenizer.ts';
import { readLlama2c } from './llama2c.ts';
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
  /** Files that decide what a model computes, by the names that the digest has for them. */
  files(path: string): Promise<Record<string, string>>;
}

const missing = (message: string, hint: string, cause?: unknown): EpsilonflowError =>
  new EpsilonflowError('MODEL_MISSING', message, { hint, cause });

const gguf: Format = {
  weights: readGguf,
  tokenizer: readGgufTokenizer,
  files: (path) => Promise.resolve({ gguf: path }),
};

const tokenizerBeside = (path: string): string => join(dirname(path), 'tokenizer.bin');

const llama2c: Format = {
  weights: readLlama2c,
  tokenizer: (path) => readLlama2cTokenizer(tokenizerBeside(path)),
  files: (path) => Promise.resolve({ model: path, tokenizer: tokenizerBeside(path) }),
};

/** Files of a folder that decide what its model computes; notes beside them don't. */
const isModelFile = (name: string): boolean => name.endsWith('.json') || name.endsWith('.safetensors');

const folder: Format = {
  weights: readFolder,
  async tokenizer(path) {
    const [definition, config] = await Promise.all(
      ['tokenizer.json', 'tokenizer_config.json'].map((name) => readJsonFile(join(path, name))),
    );
    return { definition: definition!, config: config! };
  },
  async files(path) {
    const names = await readdir(path);
    for (const needed of ['config.json', 'tokenizer.json']) {
      if (names.includes(needed)) continue;
      const hint = 'A model folder is in Hugging Face layout: config.json, model.safetensors, tokenizer.json.';
      throw missing(`Model folder ${path} has no ${needed}`, hint);
    }
    const files: Record<string, string> = {};
    for (const name of names.filter(isModelFile).sort()) {
      if ((await stat(join(path, name))).isFile()) files[name] = join(path, name);
    }
    return files;
  },
};

async function startsWithGguf(path: string): Promise<boolean> {
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString('latin1') === 'GGUF';
  } finally {
    await file.close();
  }
}

/** @throws EpsilonflowError MODEL_MISSING */
async function formatOf(path: string): Promise<Format> {
  try {
    if ((await stat(path)).isDirectory()) return folder;
    return path.endsWith('.gguf') || (await startsWithGguf(path)) ? gguf : llama2c;
  } catch (cause) {
    const hint = 'Paths in a spec are relative to the spec file.';
    throw missing(`Model ${path} does not exist or cannot be read`, hint, cause);
  }
}

/**
 * A model: a folder in Hugging Face layout, a GGUF file, or a checkpoint of llama2.c (`.bin`).
 *
 * @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID when a file is damaged or the architecture is not known.
 */
export async function readModel(path: string): Promise<Model> {
  const { config, weights: host } = await (await formatOf(path)).weights(path);
  checkWeights(config, host);
  return { config, weights: toTensors(host) };
}

/**
 * The tokenizer of a model: `tokenizer.json` of a folder, the one inside a GGUF file, `tokenizer.bin` beside a checkpoint
 * of llama2.c. A missing start token is replaced by the end-of-text token.
 *
 * @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID when it can't be read, is of a kind that is not known, or names
 *   no end-of-text token
 */
export async function readTokenizer(path: string): Promise<Tokenizer> {
  return makeTokenizer(path, await (await formatOf(path)).tokenizer(path));
}

/** Writes the tokenizer of a model into a model folder. */
export async function copyTokenizer(path: string, directory: string): Promise<void> {
  const { definition, config } = await (await formatOf(path)).tokenizer(path);
  for (const [name, value] of Object.entries({ tokenizer: definition, tokenizer_config: config })) {
    await writeFile(join(directory, `${name}.json`), `${JSON.stringify(value)}\n`);
  }
}

async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer);
  } catch (cause) {
    throw missing(`Model file ${path} does not exist or cannot be read`, 'A model needs all of its files.', cause);
  }
  return hash.digest('hex');
}

/** What a model computes, as one digest: the plan holds it, and a step checks it. @throws EpsilonflowError MODEL_MISSING */
export async function modelDigest(path: string): Promise<string> {
  const digests: Record<string, string> = {};
  for (const [name, file] of Object.entries(await (await formatOf(path)).files(path)))
    digests[name] = await fileDigest(file);
  return createHash('sha256').update(JSON.stringify(digests)).digest('hex');
}

/**
 * Checks that a model is the one that the plan was made for. Otherwise a repeated step would use the same noise on another
 * gradient.
 *
 * @throws EpsilonflowError MODEL_INVALID
 */
export async function checkModelUnchanged(model: { name: string; path: string; digest: string }): Promise<void> {
  const { name, path, digest } = model;
  if ((await modelDigest(path)) === digest) return;
  const what = `Model ${name} at ${path} is no longer the one that the plan was made for.`;
  throw new EpsilonflowError('MODEL_INVALID', what, { hint: 'Restore it, or run the spec again for a new plan.' });
}
