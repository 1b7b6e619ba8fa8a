/** @file What a model folder computes, as one digest: the plan holds it, and a step checks it when it loads the model. */

import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { EpsilonflowError } from '../../schemas/errors.ts';

/** Files of a model folder that decide what it computes; notes beside them don't. */
const isModelFile = (name: string): boolean => name.endsWith('.json') || name.endsWith('.safetensors');

/** @throws EpsilonflowError MODEL_MISSING */
export async function modelDigest(path: string): Promise<string> {
  const names = await readdir(path).catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_MISSING', `Model folder ${path} does not exist or cannot be read`, {
      hint: 'Paths in a spec are relative to the spec file.',
      cause,
    });
  });
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (names.includes(needed)) continue;
    throw new EpsilonflowError('MODEL_MISSING', `Model folder ${path} has no ${needed}`, {
      hint: 'A model is a folder in Hugging Face layout: config.json, model.safetensors, tokenizer.json.',
    });
  }
  const files: Record<string, string> = {};
  for (const name of names.filter(isModelFile).sort()) {
    if (!(await stat(join(path, name))).isFile()) continue;
    files[name] = createHash('sha256')
      .update(await readFile(join(path, name)))
      .digest('hex');
  }
  return createHash('sha256').update(JSON.stringify(files)).digest('hex');
}

/**
 * Whether a model is the one that the plan was made for. Otherwise a repeated step would use the same noise on another
 * gradient.
 *
 * @throws EpsilonflowError MODEL_INVALID
 */
export async function checkModelUnchanged({
  name,
  path,
  digest,
}: {
  name: string;
  path: string;
  digest: string;
}): Promise<void> {
  if ((await modelDigest(path)) === digest) return;
  throw new EpsilonflowError(
    'MODEL_INVALID',
    `Model ${name} at ${path} is no longer the one that the plan was made for.`,
    {
      hint: 'Restore the folder, or run the spec again for a new plan.',
    },
  );
}
