/** Keeps what is private in the demos out of the public text: by whole sentences and by runs of eight words. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { comparable, splitSentences } from '../demo-data/sentences.ts';
import { sharedDataFolder } from './sources.ts';

const run = 8;

/** Texts that must not be in the corpus. */
export class ProtectedText {
  readonly #sentences = new Set<string>();
  readonly #runs = new Set<string>();

  /** Protects a text; with `runs`, any eight consecutive words of it too. */
  add(text: string, runs: boolean): void {
    const words = comparable(text).split(' ');
    if (words.length >= 4) this.#sentences.add(words.join(' '));
    if (!runs) return;
    for (let i = 0; i + run <= words.length; i++) this.#runs.add(words.slice(i, i + run).join(' '));
  }

  /** Whether a passage holds a protected sentence or shares eight consecutive words with a protected text. */
  touches(passage: string): boolean {
    if (
      splitSentences(
        passage.replace(/([.!?]["')\]]*) ([a-z])/g, (_, end: string, next: string) => `${end} ${next.toUpperCase()}`),
      ).some((sentence) => this.#sentences.has(comparable(sentence)))
    ) {
      return true;
    }
    const words = comparable(passage).split(' ');
    for (let i = 0; i + run <= words.length; i++) {
      if (this.#runs.has(words.slice(i, i + run).join(' '))) return true;
    }
    return this.#sentences.has(words.join(' '));
  }
}

/** Rows of the prepared demo datasets: `folder` is `.epsilonflow/data`. */
export function protectDemoData(target: ProtectedText, folder: string): number {
  let rows = 0;
  for (const name of ['speeches', 'mails']) {
    for (const split of ['train', 'test']) {
      for (const line of readFileSync(join(folder, name, `${split}.jsonl`), 'utf8').split('\n')) {
        if (line === '') continue;
        target.add((JSON.parse(line) as { text: string }).text, true);
        rows++;
      }
    }
  }
  return rows;
}

/** Whole sentences of the benchmark sets that experiments treat as private, where they lie beside the clone. */
export function protectBenchmarks(target: ProtectedText): number {
  const folder = sharedDataFolder();
  const files = [
    'yelp-short/sentiment.dev.0.br',
    'yelp-short/sentiment.dev.1.br',
    'yelp-short/sentiment.test.0.br',
    'yelp-short/sentiment.test.1.br',
    'rt-polarity/rt-polarity.neg',
    'rt-polarity/rt-polarity.pos',
    'sst2-sentences/stsa.binary.train',
    'sst2-sentences/stsa.binary.dev',
    'sst2-sentences/stsa.binary.test',
    'sms-spam/sms.tsv',
  ];
  let rows = 0;
  for (const file of files) {
    const path = join(folder, file);
    if (!existsSync(path)) continue;
    const bytes = readFileSync(path);
    const text = (file.endsWith('.br') ? brotliDecompressSync(bytes) : bytes).toString('latin1');
    for (const line of text.split('\n')) {
      target.add(line.replace(/^(\d|ham|spam)\s/, ''), false);
      rows++;
    }
  }
  return rows;
}
