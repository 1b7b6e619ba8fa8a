/** @file How large a model is, from its configuration alone: needs neither weights nor TensorFlow. */

import { join } from 'node:path';

import { type DecoderConfig, parameterCount } from '../decoder/config.ts';
import { parseConfig } from './config-json.ts';
import { readJsonFile } from './json-reader.ts';
import { formatOf } from './model-digest.ts';

/** Null where it is told in no `config.json`, or in one of a model that is not known here. */
export async function modelSize(
  path: string,
): Promise<({ parameters: number } & Pick<DecoderConfig, 'dim' | 'layers'>) | null> {
  try {
    if ((await formatOf(path)) !== 'folder') return null;
    const file = join(path, 'config.json');
    const config = parseConfig(file, await readJsonFile(file));
    return { parameters: parameterCount(config), dim: config.dim, layers: config.layers };
  } catch {
    return null;
  }
}
