/**
 * @file Texts as word numbers by hashing: no vocabulary is learned, so nothing of private rows is in the numbering.
 */

/** Number of the padding word. Its embedding is zero and stays so. */
export const paddingWord = 0;

/** Runs of letters and digits, or single other signs; not white space. */
const wordPattern = /[\p{L}\p{N}\p{M}]+|[^\s\p{L}\p{N}\p{M}]/gu;

/** 32-bit FNV-1a over UTF-16 code units' low and high bytes, with MurmurHash3's finaliser so that low bits mix. */
export function hashWord(word: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < word.length; index++) {
    const unit = word.charCodeAt(index);
    hash = Math.imul(hash ^ (unit & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (unit >>> 8), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Words of a text: lower-cased, in Unicode's composed form. */
export function splitWords(text: string): string[] {
  return text.normalize('NFC').toLowerCase().match(wordPattern) ?? [];
}

/** Texts as word numbers, one behind the other. */
export interface EncodedTexts {
  /** Word numbers of all texts, 1 to buckets - 1, and padding. */
  words: Int32Array;
  /** [texts + 1]: text i is `words[starts[i]]` up to `words[starts[i + 1] - 1]`. */
  starts: Int32Array;
}

/**
 * Numbers the words of texts by hashing into `buckets - 1` buckets.
 *
 * @param options.words longest text, words; the rest is cut.
 * @param options.shortest texts with fewer words are padded to this many, so that the widest filter fits.
 */
export function encodeTexts(
  texts: readonly string[],
  options: { buckets: number; words: number; shortest: number },
): EncodedTexts {
  const { buckets, words: longest, shortest } = options;
  const starts = new Int32Array(texts.length + 1);
  const numbers: number[] = [];
  const known = new Map<string, number>();
  for (let text = 0; text < texts.length; text++) {
    const words = splitWords(texts[text]!);
    const count = Math.min(words.length, longest);
    for (let index = 0; index < count; index++) {
      const word = words[index]!;
      let number = known.get(word);
      if (number === undefined) {
        number = 1 + (hashWord(word) % (buckets - 1));
        known.set(word, number);
      }
      numbers.push(number);
    }
    for (let index = count; index < shortest; index++) numbers.push(paddingWord);
    starts[text + 1] = numbers.length;
  }
  return { words: Int32Array.from(numbers), starts };
}
