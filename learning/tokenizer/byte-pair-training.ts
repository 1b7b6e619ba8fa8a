/**
 * @file Trains a byte-level BPE tokenizer (Sennrich et al. 2016, on bytes as in GPT-2) and writes it in Hugging Face form.
 *
 * Merges are learned on counted distinct words, and each merge touches only the words that hold its pair, so the work
 * grows with the number of distinct words rather than with the length of the text.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { byteCharacters, wordPattern } from './byte-alphabet.ts';

export interface BytePairVocabulary {
  /** Token of each id: end-of-text, the 256 bytes in the order of their characters, then one for each merge. */
  tokens: string[];
  /** Pairs of tokens in the order of their merging. */
  merges: [string, string][];
}

/** Marks the start and the end of a document; id 0 of a tokenizer trained here. */
export const endOfText = '<|endoftext|>';

/** Byte tokens by code point, as Hugging Face's trainer numbers them; ties between pairs are broken by these numbers. */
const byteTokens = [...byteCharacters].sort();
const byteIds = byteCharacters.map((character) => 1 + byteTokens.indexOf(character));
const reservedTokens = 1 + byteTokens.length;
/** Pairs of ids are keys of maps as left * pairBase + right; ids stay below it. */
const pairBase = 1 << 21;

interface Word {
  ids: number[];
  count: number;
}

/** Counts the words of all texts; each text starts as if after a space, like the tokenizer that will read it. */
function countWords(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of (text.startsWith(' ') ? text : ` ${text}`).match(wordPattern) ?? []) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return counts;
}

/** Pairs by count, with the words that hold them. Counts only grow stale downwards in the queue, never upwards. */
class PairCounts {
  private readonly counts = new Map<number, number>();
  private readonly holders = new Map<number, Set<number>>();
  /** Binary heap of candidates; an entry whose count is no longer right is put back with the right one. */
  private readonly heap: { pair: number; count: number }[] = [];

  add(pair: number, count: number, word: number): void {
    const total = (this.counts.get(pair) ?? 0) + count;
    this.counts.set(pair, total);
    let words = this.holders.get(pair);
    if (words === undefined) this.holders.set(pair, (words = new Set()));
    words.add(word);
  }

  remove(pair: number, count: number): void {
    this.counts.set(pair, (this.counts.get(pair) ?? 0) - count);
  }

  /** Makes a pair eligible at its present count. */
  enqueue(pair: number): void {
    this.push({ pair, count: this.counts.get(pair) ?? 0 });
  }

  /** The most frequent pair (the smallest pair of ids among equals) and the words that may hold it. */
  takeBest(): { pair: number; words: number[] } | null {
    for (;;) {
      const best = this.pop();
      if (best === null) return null;
      const count = this.counts.get(best.pair) ?? 0;
      if (count !== best.count) {
        if (count > 0) this.push({ pair: best.pair, count });
        continue;
      }
      if (count < 2) return null;
      const words = [...(this.holders.get(best.pair) ?? [])].sort((a, b) => a - b);
      this.counts.delete(best.pair);
      this.holders.delete(best.pair);
      return { pair: best.pair, words };
    }
  }

  private before(a: { pair: number; count: number }, b: { pair: number; count: number }): boolean {
    return a.count !== b.count ? a.count > b.count : a.pair < b.pair;
  }

  private push(entry: { pair: number; count: number }): void {
    const heap = this.heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(entry, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  private pop(): { pair: number; count: number } | null {
    const heap = this.heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined) return null;
    if (heap.length > 0) {
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && this.before(heap[child + 1]!, heap[child]!)) child++;
        if (!this.before(heap[child]!, last)) break;
        heap[at] = heap[child]!;
        at = child;
      }
      heap[at] = last;
    }
    return top;
  }
}

/** Replaces each occurrence of a pair in a word, from the left; returns the word's new ids. */
function mergeInWord(ids: readonly number[], left: number, right: number, merged: number): number[] {
  const out: number[] = [];
  for (let at = 0; at < ids.length; at++) {
    if (ids[at] === left && ids[at + 1] === right) {
      out.push(merged);
      at++;
    } else out.push(ids[at]!);
  }
  return out;
}

/**
 * Learns a vocabulary. Deterministic: it depends on the texts and the size only, not on the order of the texts.
 *
 * @param vocabularySize tokens in all, end-of-text and the 256 bytes included; fewer come out when no pair occurs
 *   twice any more.
 * @throws RangeError when the size leaves no room for the bytes.
 */
export function trainBytePairs(texts: Iterable<string>, vocabularySize: number): BytePairVocabulary {
  if (!Number.isSafeInteger(vocabularySize) || vocabularySize < reservedTokens || vocabularySize >= pairBase) {
    throw new RangeError(`a byte-level vocabulary has ${reservedTokens} to ${pairBase - 1} tokens`);
  }
  const words: Word[] = [];
  for (const [word, count] of countWords(texts)) {
    const ids = Array.from(Buffer.from(word, 'utf8'), (byte) => byteIds[byte]!);
    if (ids.length > 1) words.push({ ids, count });
  }
  const pairs = new PairCounts();
  const seen = new Set<number>();
  words.forEach(({ ids, count }, index) => {
    for (let at = 0; at + 1 < ids.length; at++) {
      const pair = ids[at]! * pairBase + ids[at + 1]!;
      pairs.add(pair, count, index);
      seen.add(pair);
    }
  });
  for (const pair of seen) pairs.enqueue(pair);

  const tokens = [endOfText, ...byteTokens];
  const merges: [string, string][] = [];
  while (tokens.length < vocabularySize) {
    const best = pairs.takeBest();
    if (best === null) break;
    const left = Math.floor(best.pair / pairBase);
    const right = best.pair % pairBase;
    const merged = tokens.length;
    tokens.push(tokens[left]! + tokens[right]!);
    merges.push([tokens[left]!, tokens[right]!]);

    const fresh = new Set<number>();
    for (const index of best.words) {
      const word = words[index]!;
      const next = mergeInWord(word.ids, left, right, merged);
      if (next.length === word.ids.length) continue;
      for (let at = 0; at + 1 < word.ids.length; at++) {
        const pair = word.ids[at]! * pairBase + word.ids[at + 1]!;
        if (pair !== best.pair) pairs.remove(pair, word.count);
      }
      for (let at = 0; at + 1 < next.length; at++) {
        const pair = next[at]! * pairBase + next[at + 1]!;
        pairs.add(pair, word.count, index);
        if (next[at] === merged || next[at + 1] === merged) fresh.add(pair);
      }
      word.ids = next;
    }
    for (const pair of fresh) pairs.enqueue(pair);
  }
  return { tokens, merges };
}

/**
 * Writes `tokenizer.json` and `tokenizer_config.json` as Hugging Face's libraries read them. Texts are encoded as if
 * after a space, so that a word has the same token at the start of a text as inside; decoding takes that space off.
 */
export async function writeTokenizer(directory: string, vocabulary: BytePairVocabulary): Promise<void> {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: 0,
        content: endOfText,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: { type: 'Sequence', decoders: [byteLevel, { type: 'Strip', content: ' ', start: 1, stop: 0 }] },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.tokens.map((token, id) => [token, id])),
      merges: vocabulary.merges,
    },
  };
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: endOfText,
    eos_token: endOfText,
    unk_token: null,
    clean_up_tokenization_spaces: false,
    model_max_length: 1_000_000,
  };
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'tokenizer.json'), `${JSON.stringify(tokenizer)}\n`);
  await writeFile(join(directory, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`);
}
