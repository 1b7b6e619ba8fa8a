import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, expect, it } from 'vitest';

import { run } from '../../activities/decontaminate.ts';
import type { JobContext, JobInput } from '../../activities/job.ts';
import { readDecontaminated, readDigested, type Decontamination, type DatasetSource } from '../../datasets/index.ts';
import type { DecontaminateParams } from '../../schemas/step-params.ts';

const folder = mkdtempSync(join(tmpdir(), 'decontaminate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const context = {
  progress: () => undefined,
  breathe: () => Promise.resolve(),
} as unknown as JobContext;

const words = (from: number, to: number, name = 'w'): string =>
  Array.from({ length: to - from }, (_, index) => `${name}${from + index}`).join(' ');

let files = 0;
async function dataset(name: string, splits: Record<string, string[]>): Promise<JobInput['datasets'][string]> {
  const source: DatasetSource = { name, files: {}, text: 'text', label: null, sensitivity: 'public' };
  for (const [split, texts] of Object.entries(splits)) {
    const path = join(folder, `${name}-${files++}.jsonl`);
    writeFileSync(path, texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));
    source.files[split as 'train'] = { path, format: 'jsonl', compression: 'none' };
  }
  return { ...source, privacy: null, digest: (await readDigested(source, null)).digest };
}

interface Outcome {
  documents: string[];
  report: Decontamination;
  overlaps: Record<string, unknown>[];
  metrics: Record<string, number>;
}

async function decontaminate(
  corpus: string[],
  against: Record<string, string[]>[],
  params: DecontaminateParams,
): Promise<Outcome> {
  const outputDirectory = join(folder, `output-${files++}`);
  mkdirSync(outputDirectory);
  const names = against.map((_, index) => `reviews-${index}`);
  const datasets = {
    books: await dataset('books', { train: corpus }),
    ...Object.fromEntries(
      await Promise.all(names.map(async (name, index) => [name, await dataset(name, against[index]!)] as const)),
    ),
  };
  const inputs = {
    corpus: { dataset: 'books' },
    ...Object.fromEntries(names.map((name, index) => [`against.${index}`, { dataset: name }])),
  };
  const node = { id: 'clean', params, inputs, waivers: [] as string[] };
  const { metrics } = await run(
    { node, datasets, artifacts: {}, outputDirectory, datasetSecret: null } as unknown as JobInput<'decontaminate'>,
    context,
  );
  const { documents, decontamination } = await readDecontaminated(outputDirectory);
  const lines = readFileSync(join(outputDirectory, 'overlaps.jsonl'), 'utf8').split('\n').filter(Boolean);
  return {
    ...{ documents, report: decontamination, metrics },
    overlaps: lines.map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

const corpus = [
  'Nothing of this is anywhere else.',
  `Before. ${words(0, 60).toUpperCase()}; between ${words(100, 155)} after.`,
  words(0, 49),
  words(200, 250),
];
const against: Record<string, string[]>[] = [
  { train: [words(0, 60), 'short'], test: [`x ${words(100, 155)}`] },
  { validation: ['another', words(200, 250)] },
];

it('cuts what the datasets hold out of the corpus, from any of their splits', async () => {
  const { documents, report, overlaps, metrics } = await decontaminate(corpus, against, { mode: 'cut', runLength: 50 });
  expect(documents).toEqual([corpus[0], 'Before.', '; between', 'after.', corpus[2]]);
  expect(report).toMatchObject({
    corpus: { name: 'books', documents: 4 },
    overlap: { documents: 2, spans: 3, tokens: 165, longestRun: 60 },
    kept: { documents: 5 },
    against: [
      { dataset: 'reviews-0', split: 'train', records: 2, overlapping: 1, tokens: 60 },
      { dataset: 'reviews-0', split: 'test', records: 1, overlapping: 1, tokens: 55 },
      { dataset: 'reviews-1', split: 'validation', records: 2, overlapping: 1, tokens: 50 },
    ],
  });
  expect(overlaps).toMatchObject([
    { document: 2, from: 1, to: 61, dataset: 'reviews-0', split: 'train', record: 1, longestRun: 60 },
    { document: 2, from: 62, to: 117, dataset: 'reviews-0', split: 'test', record: 1, text: words(100, 155) },
    { document: 4, from: 0, to: 50, dataset: 'reviews-1', split: 'validation', record: 2 },
  ]);
  expect(metrics).toMatchObject({
    ...{ documents: 4, keptDocuments: 5, overlappingDocuments: 2, overlappingSpans: 3, overlappingRecords: 3 },
  });
});

it('drops the documents that hold a common run', async () => {
  const { documents, report } = await decontaminate(corpus, against, { mode: 'drop', runLength: 50 });
  expect(documents).toEqual([corpus[0], corpus[2]]);
  expect(report.kept).toEqual({ documents: 2 });
});

it('leaves a corpus alone that shares nothing', async () => {
  const { documents, overlaps, report } = await decontaminate(corpus, [{ train: ['one two'] }], {
    ...{ mode: 'cut', runLength: 50 },
  });
  expect(documents).toEqual(corpus);
  expect(overlaps).toEqual([]);
  expect(report.overlap).toEqual({ documents: 0, spans: 0, tokens: 0, longestRun: 0 });
});

it('gives the same each time', async () => {
  const once = await decontaminate(corpus, against, { mode: 'cut', runLength: 20 });
  expect(await decontaminate(corpus, against, { mode: 'cut', runLength: 20 })).toEqual(once);
});

it('fails where nothing is left', async () => {
  await expect(decontaminate([words(0, 60)], against, { mode: 'cut', runLength: 50 })).rejects.toMatchObject({
    ...{ code: 'STEP_FAILED', message: 'Nothing is left of the corpus books: all of it overlaps.' },
  });
});

it('opens no private dataset without the waiver', async () => {
  const books = await dataset('books', { train: corpus });
  // Keyed: only a worker with the secret of the datasets can read it.
  const letters = { ...(await dataset('letters', { train: ['a letter'] })), sensitivity: 'private' as const };
  const clean = (waivers: string[]): Promise<unknown> =>
    run(
      {
        node: {
          id: 'clean',
          params: { mode: 'cut', runLength: 50 },
          inputs: { corpus: { dataset: 'books' }, against: { dataset: 'letters' } },
          waivers,
        },
        datasets: { books, letters },
        artifacts: {},
        outputDirectory: folder,
        datasetSecret: Buffer.alloc(32),
      } as unknown as JobInput<'decontaminate'>,
      context,
    );
  for (const waivers of [[], ['measures']]) {
    await expect(clean(waivers)).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
      message: 'clean has no waiver to decontaminate against private records.',
    });
  }
  await expect(clean(['decontamination'])).rejects.toMatchObject({ code: 'DATA_CHANGED' });
});
