/** @file Which files a model consists of, and one digest of them: what reads no weights needs no TensorFlow. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { EpsilonflowError } from '../../schemas/errors.ts';

/** A folder in Hugging Face layout, a GGUF file, a checkpoint of llama2.c. */
export type ModelFormat = 'folder' | 'gguf' | 'llama2c';

const missing = (message: string, hint: string, cause?: unknown): EpsilonflowError =>
  new EpsilonflowError('MODEL_MISSING', message, { hint, cause });

export const tokenizerBeside = (path: string): string => join(dirname(path), 'tokenizer.bin');

/** Files of a folder that decide what its model computes; notes beside them don't. */
const isModelFile = (name: string): boolean => name.endsWith('.json') || name.endsWith('.safetensors');

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
export async function formatOf(path: string): Promise<ModelFormat> {
  try {
    if ((await stat(path)).isDirectory()) return 'folder';
    return path.endsWith('.gguf') || (await startsWithGguf(path)) ? 'gguf' : 'llama2c';
  } catch (cause) {
    const hint = 'Paths in a spec are relative to the spec file.';
    throw missing(`Model ${path} does not exist or cannot be read`, hint, cause);
  }
}

/** Files that decide what a model computes, by the names that the digest has for them. */
async function filesOf(path: string): Promise<Record<string, string>> {
  switch (await formatOf(path)) {
    case 'gguf':
      return { gguf: path };
    case 'llama2c':
      return { model: path, tokenizer: tokenizerBeside(path) };
    case 'folder':
      return folderFiles(path);
  }
}

async function folderFiles(path: string): Promise<Record<string, string>> {
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
  for (const [name, file] of Object.entries(await filesOf(path))) digests[name] = await fileDigest(file);
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
