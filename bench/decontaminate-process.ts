/**
 * @file Searches made-up texts for common runs in a process of its own, and prints how long that took and the most memory
 * that the process held. Arguments: megabytes of text, and a folder to write the texts to instead, for a peer.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { commonRuns, spansOf } from '../measures/overlap/index.ts';
import { seededStream } from '../privacy/noise.ts';

export interface Searched {
  /** Processor time. */
  seconds: number;
  /** Bytes, texts and program included. */
  peak: number;
  /** Of the texts. */
  bytes: number;
  spans: number;
}

const runLength = 50;
const charactersOfText = 1000;
/** So few that the datasets hold nearly all of them: little of the corpus can be left out beforehand. */
const distinctWords = 20_000;
/** Every so many-th text of the corpus holds a passage of a reference. */
const textsBetweenCopies = 50;

const stream = seededStream(1, 'bench texts');
const below = (limit: number): number => Math.floor(stream.uniform() * limit);

/** Frequent words are short ones. */
const vocabulary = Array.from({ length: distinctWords }, (_, rank) => rank.toString(36) + 'aeiouy'[rank % 6]);

function text(): string {
  const words: string[] = [];
  for (let length = 0; length < charactersOfText;) {
    const word = vocabulary[Math.floor(distinctWords ** stream.uniform())]!;
    words.push(word);
    length += word.length + 1;
  }
  return words.join(' ');
}

function copied(references: readonly string[]): string {
  const words = references[below(references.length)]!.split(' ');
  const from = below(words.length - 2 * runLength);
  return words.slice(from, from + runLength + below(runLength)).join(' ');
}

const megabytes = Number(process.argv[2]);
const texts = Math.ceil((megabytes * 1e6) / charactersOfText);
const references = Array.from({ length: Math.ceil(texts / 5) }, text);
const corpus = Array.from({ length: texts - references.length }, (_, index) =>
  index % textsBetweenCopies === 0 ? `${text()} ${copied(references)} ${text()}` : text(),
);
const folder = process.argv[3];
if (folder === undefined) {
  const started = process.cpuUsage();
  const runs = await commonRuns(corpus, references, runLength, () => Promise.resolve());
  const spans = [...spansOf(runs.inCorpus())].length;
  const { user, system } = process.cpuUsage(started);
  // Not the resource usage: that begins with what the parent held when it started this process.
  const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
  const bytes = [...corpus, ...references].reduce((sum, each) => sum + each.length + 1, 0);
  process.stdout.write(JSON.stringify({ seconds: (user + system) / 1e6, peak, bytes, spans } satisfies Searched));
} else {
  writeFileSync(join(folder, 'corpus.txt'), corpus.join('\n'));
  writeFileSync(join(folder, 'references.txt'), references.join('\n'));
}
