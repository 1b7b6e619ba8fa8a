/**
 * @file Texts as hashed n-grams of words (Weinberger et al. 2009, arXiv:0902.2206): no vocabulary is learned, so nothing
 * of private rows is in the numbering.
 */

import { hashWord, splitWords } from '../word-cnn/words.ts';

/** Which buckets each text has. All features of a text are equal, such that they are a vector of length 1. */
export interface HashedTexts {
  /** Bucket numbers of all texts, one behind the other; of one text distinct and ascending. */
  buckets: Int32Array;
  /** [texts + 1]: text i has `buckets[starts[i]]` up to `buckets[starts[i + 1] - 1]`. */
  starts: Int32Array;
}

/** Each of a text's features; 0 where it has none. */
export const featureOf = ({ starts }: HashedTexts, text: number): number => {
  const count = starts[text + 1]! - starts[text]!;
  return count === 0 ? 0 : 1 / Math.sqrt(count);
};

/** @param options.words longest text, words; the rest is cut. @param options.ngrams longest run of words */
export function hashTexts(
  texts: readonly string[],
  { buckets, words: longest, ngrams }: { buckets: number; words: number; ngrams: number },
): HashedTexts {
  const starts = new Int32Array(texts.length + 1);
  const numbers: number[] = [];
  const known = new Map<string, number>();
  const bucketOf = (gram: string): number => {
    let bucket = known.get(gram);
    if (bucket === undefined) known.set(gram, (bucket = hashWord(gram) % buckets));
    return bucket;
  };
  texts.forEach((text, index) => {
    const words = splitWords(text).slice(0, longest);
    const found = new Set<number>();
    for (let length = 1; length <= ngrams; length++) {
      // Words hold no white space.
      for (let at = 0; at + length <= words.length; at++) found.add(bucketOf(words.slice(at, at + length).join(' ')));
    }
    for (const bucket of [...found].sort((a, b) => a - b)) numbers.push(bucket);
    starts[index + 1] = numbers.length;
  });
  return { buckets: Int32Array.from(numbers), starts };
}
