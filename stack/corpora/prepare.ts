/** @file Prepares the public text of the base model: `.epsilonflow/corpora/public.jsonl`, a passage a line. */

import { createHash } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { demoDatasets, prepareDataset } from '../demo-data/prepare.ts';
import { comparable } from '../demo-data/sentences.ts';
import { partsRoot } from '../paths.ts';
import { ProtectedText, protectBenchmarks, protectDemoData } from './overlap.ts';
import { passages } from './passages.ts';
import { corpusSources, type CorpusSource } from './sources.ts';

export interface CorpusManifest {
  file: { records: number; characters: number; bytes: number; sha256: string };
  sources: Record<string, { passages: number; characters: number; licence: string }>;
  /** Sources whose files were not there. */
  absent: string[];
  dropped: { overlapping: number; repeated: number };
  protectedRows: { demo: number; benchmarks: number };
}

/** Passages of one source that neither touch protected text nor were seen before. */
function takePassages(
  source: CorpusSource,
  guard: ProtectedText,
  seen: Set<string>,
  dropped: CorpusManifest['dropped'],
): string[] {
  const taken: string[] = [];
  let characters = 0;
  for (const document of source.documents()) {
    for (const passage of passages(document)) {
      if (characters >= (source.limit ?? Infinity)) return taken;
      const digest = createHash('sha256').update(comparable(passage)).digest('base64');
      if (seen.has(digest)) {
        dropped.repeated++;
      } else if (guard.touches(passage)) {
        dropped.overlapping++;
      } else {
        seen.add(digest);
        taken.push(passage);
        characters += passage.length;
      }
    }
  }
  return taken;
}

/** What the corpus must not hold: the demo data, and the benchmark sets beside the clone. */
function protectAll(): { guard: ProtectedText; protectedRows: CorpusManifest['protectedRows'] } {
  for (const dataset of demoDatasets) prepareDataset(dataset);
  const guard = new ProtectedText();
  const demo = protectDemoData(guard, join(partsRoot, 'data'));
  return { guard, protectedRows: { demo, benchmarks: protectBenchmarks(guard) } };
}

/** Writes the corpus and its manifest into `folder`, shuffled by digest so that any prefix is a fair sample. */
export function prepareCorpus(
  folder = join(partsRoot, 'corpora'),
  sources = corpusSources,
  { guard, protectedRows } = protectAll(),
): CorpusManifest {
  const dropped = { overlapping: 0, repeated: 0 };
  const seen = new Set<string>();
  const perSource: CorpusManifest['sources'] = {};
  const all: string[] = [];
  for (const source of sources.filter((candidate) => candidate.present())) {
    const taken = takePassages(source, guard, seen, dropped);
    const characters = taken.reduce((sum, passage) => sum + passage.length, 0);
    perSource[source.name] = { passages: taken.length, characters, licence: source.licence };
    for (const passage of taken) all.push(passage);
  }
  const content = all
    .map((text) => ({ text, order: createHash('sha256').update(text).digest('hex') }))
    .sort((a, b) => (a.order < b.order ? -1 : 1))
    .map(({ text }) => `${JSON.stringify({ text })}\n`)
    .join('');
  const manifest: CorpusManifest = {
    file: {
      records: all.length,
      characters: all.reduce((sum, text) => sum + text.length, 0),
      bytes: Buffer.byteLength(content),
      sha256: createHash('sha256').update(content).digest('hex'),
    },
    sources: perSource,
    absent: sources.filter((candidate) => !candidate.present()).map(({ name }) => name),
    dropped,
    protectedRows,
  };
  const staging = `${folder}.partial-${process.pid}`;
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  writeFileSync(join(staging, 'public.jsonl'), content);
  writeFileSync(join(staging, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  rmSync(folder, { recursive: true, force: true });
  renameSync(staging, folder);
  return manifest;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  console.log(JSON.stringify(prepareCorpus(), null, 2));
}
