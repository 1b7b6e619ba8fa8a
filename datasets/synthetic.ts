/** @file Reads the records that a `generate` step wrote. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { EpsilonflowError } from '../schemas/errors.ts';
import { readRecords } from './records.ts';
import type { TextRecord } from './source.ts';

/**
 * Records of a generate artifact: `synthetic.jsonl`, lines `{"text", "label"}` with label names, and `labels.json`,
 * the names in order. Labels come back as indices into that array.
 *
 * @throws EpsilonflowError as {@link readRecords}; synthetic records are DP output or public, so messages may name
 *   them.
 */
export async function readSynthetic(directory: string): Promise<TextRecord[]> {
  const labels = await readSyntheticLabels(directory);
  return readRecords(
    {
      name: 'synthetic',
      files: { train: { path: join(directory, 'synthetic.jsonl'), format: 'jsonl', compression: 'none' } },
      text: 'text',
      label: { column: 'label', values: labels },
      sensitivity: 'public',
    },
    'train',
  );
}

/** Names of the classes of a generate artifact, in the order of their indices. */
export async function readSyntheticLabels(directory: string): Promise<string[]> {
  const path = join(directory, 'labels.json');
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (Array.isArray(value) && value.every((name): name is string => typeof name === 'string')) return value;
  } catch (cause) {
    throw new EpsilonflowError('DATA_FILE_MISSING', `Label names ${path} cannot be read`, { cause });
  }
  throw new EpsilonflowError('DATA_UNREADABLE', `Label names ${path} are not an array of strings`);
}
