/** @file The result of a `decontaminate` step: what is left of a corpus, and what was found. */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { readRecords } from './records.ts';
import type { Split } from './source.ts';

/** Counts of texts and tokens: no text stands in it. */
export interface Decontamination {
  corpus: { name: string; digest: string; documents: number; tokens: number };
  mode: 'cut' | 'drop';
  /** Least length of a run, tokens. */
  runLength: number;
  /** In the corpus: documents with a common run; spans and tokens that such runs cover; tokens of the longest run. */
  overlap: { documents: number; spans: number; tokens: number; longestRun: number };
  kept: { documents: number };
  against: ReferenceOverlap[];
}

/** What of a split the corpus has. */
export interface ReferenceOverlap {
  dataset: string;
  split: Split;
  records: number;
  /** Records with a common run. */
  overlapping: number;
  /** Their tokens that lie in one. */
  tokens: number;
}

const documentsFile = 'documents.jsonl';
const reportFile = 'decontamination.json';

/** Writes both, the documents as lines `{"text"}`. */
export async function writeDecontaminated(
  directory: string,
  documents: Iterable<string>,
  report: Decontamination,
): Promise<void> {
  await writeFile(
    join(directory, documentsFile),
    jsonLines(documents, (text) => ({ text })),
  );
  await writeFile(join(directory, reportFile), `${JSON.stringify(report, null, 2)}\n`);
}

/** Lines of JSON, many in a piece. */
export function* jsonLines<T>(values: Iterable<T>, content: (value: T) => object): Generator<string> {
  let piece = '';
  for (const value of values) {
    piece += `${JSON.stringify(content(value))}\n`;
    if (piece.length < 1 << 16) continue;
    yield piece;
    piece = '';
  }
  yield piece;
}

/** @throws EpsilonflowError as {@link readRecords} when a file was damaged. */
export async function readDecontaminated(
  directory: string,
): Promise<{ documents: string[]; decontamination: Decontamination }> {
  const source = {
    ...{ name: 'corpus', text: 'text', label: null, sensitivity: 'public' as const },
    files: {
      train: { path: join(directory, documentsFile), format: 'jsonl' as const, compression: 'none' as const },
    },
  };
  const records = await readRecords(source, 'train');
  const report = await readFile(join(directory, reportFile), 'utf8');
  return { documents: records.map(({ text }) => text), decontamination: JSON.parse(report) as Decontamination };
}
