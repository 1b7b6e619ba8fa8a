/**
 * @file The marker: a small file beside the specs that names the ledger which their private datasets are spent in. It is
 * committed with them, so that no clone, clean-up or lost disk begins to count from nothing again.
 */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { EpsilonflowError } from '../../schemas/errors.ts';
import type { KnownHead } from './ledger.ts';

export const markerName = 'epsilonflow-ledger.json';

export interface Marker extends KnownHead {
  /** Where the ledger was kept, without names or passwords: for people who look for it. */
  kind: 'sqlite' | 'postgres';
}

/**
 * Path of the marker for a spec: at the top of the git work tree that it lies in, else beside it. One that is there
 * already in a folder between the two counts.
 */
export function markerFile(specFile: string): string {
  const beside = dirname(specFile);
  for (let folder = beside; ; folder = dirname(folder)) {
    const file = join(folder, markerName);
    if (existsSync(join(folder, '.git'))) return file;
    if (folder !== beside && existsSync(file)) return file;
    if (folder === dirname(folder)) return join(beside, markerName);
  }
}

/** Null when there is none. @throws EpsilonflowError LEDGER_MISMATCH when it can't be read */
export function readMarker(file: string): Marker | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const { ledger, kind, sequence, hash } = JSON.parse(text) as Partial<Marker>;
    if (typeof ledger === 'string' && typeof sequence === 'number' && typeof hash === 'string') {
      return { ledger, kind: kind === 'postgres' ? kind : 'sqlite', sequence, hash };
    }
  } catch {
    // Told below.
  }
  throw new EpsilonflowError('LEDGER_MISMATCH', `${file} does not name a privacy ledger.`, {
    hint: 'Restore it from version control: it says which ledger the private datasets here are spent in.',
  });
}

/** The text of the file. Stays the same until the ledger is another one, so that work trees stay clean. */
export const markerText = ({ ledger, kind, sequence, hash }: Marker): string =>
  JSON.stringify(
    {
      about: 'Names the privacy ledger of the private datasets here. Commit it; never edit it.',
      ledger,
      kind,
      sequence,
      hash,
    },
    null,
    2,
  ) + '\n';
