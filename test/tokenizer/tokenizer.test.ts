import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PreTrainedTokenizer } from '@huggingface/transformers';

import { byteCharacters, wordPattern } from '../../learning/tokenizer/byte-alphabet.ts';
import { endOfText, trainBytePairs, writeTokenizer } from '../../learning/tokenizer/byte-pair-training.ts';
import type { Tokenizer } from '../../learning/tokenizer/index.ts';
import { readTokenizer } from '../../learning/formats/model.ts';

const texts = [
  'the lower the newest the widest',
  'low lower lowest, and wide wider widest',
  "they're new; it's the newest. 1910 and 1911",
  'Umlauts: äöü, the same: äöü äöü',
  // Signs that are words of one character and several bytes.
  'don’t can’t won’t, a–b c–d, 5€6€7',
];

/** Textbook BPE: recounts all pairs before each merge. */
function naiveMerges(corpus: readonly string[], count: number): string[] {
  const words = new Map<string, number>();
  for (const text of corpus) {
    for (const word of ` ${text}`.match(wordPattern)!) words.set(word, (words.get(word) ?? 0) + 1);
  }
  const order = new Map([...byteCharacters].sort().map((character, at) => [character, at + 1]));
  const splits = [...words].map(([word, n]) => ({
    n,
    parts: Array.from(Buffer.from(word), (byte) => byteCharacters[byte]!),
  }));
  const merges: string[] = [];
  while (merges.length < count) {
    const pairs = new Map<string, number>();
    for (const { n, parts } of splits) {
      for (let at = 0; at + 1 < parts.length; at++) {
        const pair = `${parts[at]} ${parts[at + 1]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + n);
      }
    }
    const rank = (pair: string): number[] => pair.split(' ').map((token) => order.get(token)!);
    const best = [...pairs].sort(
      ([a, x], [b, y]) => y - x || rank(a)[0]! - rank(b)[0]! || rank(a)[1]! - rank(b)[1]!,
    )[0];
    if (best === undefined || best[1] < 2) break;
    const [left, right] = best[0].split(' ') as [string, string];
    merges.push(best[0]);
    order.set(left + right, order.size + 1);
    for (const split of splits) {
      for (let at = 0; at + 1 < split.parts.length; at++) {
        if (split.parts[at] === left && split.parts[at + 1] === right) split.parts.splice(at, 2, left + right);
      }
    }
  }
  return merges;
}

describe('training of byte pairs', () => {
  it('merges in the order of the textbook algorithm', () => {
    const vocabulary = trainBytePairs(texts, 257 + 60);
    const merges = vocabulary.merges.map((pair) => pair.join(' '));
    expect(merges).toEqual(naiveMerges(texts, 60));
  });

  it('learns the merges that one works out by hand', () => {
    // Counted words " aa" x2 and " ab" x1 (bytes Ġ a a / Ġ a b): Ġa 3, then Ġa+a 2.
    expect(trainBytePairs(['aa aa ab'], 300).merges).toEqual([
      ['Ġ', 'a'],
      ['Ġa', 'a'],
    ]);
  });

  it('does not depend on the order of the texts', () => {
    expect(trainBytePairs([...texts].reverse(), 300)).toEqual(trainBytePairs(texts, 300));
  });

  it('handles a run of one letter, where pairs overlap', () => {
    const corpus = ['aaaaaaa aaaaaaa aaaa', 'aaaaa'];
    expect(trainBytePairs(corpus, 300).merges.map((pair) => pair.join(' '))).toEqual(naiveMerges(corpus, 43));
  });

  it('stops when no pair occurs twice, and refuses a vocabulary without room for the bytes', () => {
    expect(trainBytePairs(['x'], 1_000).tokens).toHaveLength(257);
    expect(() => trainBytePairs(texts, 256)).toThrow(RangeError);
  });
});

describe('a trained tokenizer', () => {
  let folder: string;
  let tokenizer: Tokenizer;
  const vocabulary = trainBytePairs(texts, 300);
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
    await writeTokenizer(folder, vocabulary);
    tokenizer = await readTokenizer(folder);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it.each([
    'the newest',
    'Größe, naïve café',
    '日本語の文章 and English',
    'emoji 👩‍👩‍👧 🎉🎉 done',
    'tabs\tand\nnewlines  two  spaces ',
    "it's 1910: they're (new)!",
    '',
  ])('gives back %j', (text) => {
    const ids = tokenizer.encode(text);
    expect(tokenizer.decode(ids)).toBe(text);
    for (const id of ids) expect(id).toBeLessThan(tokenizer.vocabularySize);
  });

  it('reserves id 0 for the end of text and leaves it out when decoding', () => {
    expect(tokenizer.vocabularySize).toBe(vocabulary.tokens.length);
    expect([tokenizer.bosId, tokenizer.eosId]).toEqual([0, 0]);
    expect(vocabulary.tokens[0]).toBe(endOfText);
    expect(tokenizer.decode([0, ...tokenizer.encode('the new'), 0])).toBe('the new');
  });

  it('applies merges in rank order, lowest first', () => {
    const ranks = new Map(vocabulary.merges.map((pair, rank) => [pair.join(' '), rank]));
    const ids = new Map(vocabulary.tokens.map((token, id) => [token, id]));
    const text = 'the lowest newer widest, wide and new';
    const expected = ` ${text}`.match(wordPattern)!.flatMap((word) => {
      const parts = Array.from(Buffer.from(word), (byte) => byteCharacters[byte]!);
      for (;;) {
        const best = parts
          .slice(1)
          .map((right, at) => ({ at, rank: ranks.get(`${parts[at]} ${right}`) ?? Infinity }))
          .sort((a, b) => a.rank - b.rank || a.at - b.at)[0];
        if (best === undefined || best.rank === Infinity) break;
        parts.splice(best.at, 2, parts[best.at]! + parts[best.at + 1]!);
      }
      return parts.map((part) => ids.get(part)!);
    });
    expect([...tokenizer.encode(text)]).toEqual(expected);
  });

  it('encodes exactly as the library does on whole texts', async () => {
    const read = async (name: string): Promise<object> =>
      JSON.parse(await readFile(join(folder, name), 'utf8')) as object;
    const library = new PreTrainedTokenizer(await read('tokenizer.json'), await read('tokenizer_config.json'));
    const samples = [
      ...texts,
      '  two leading, three   inside and trailing  ',
      "'so we're,they'll\n\n\tgo 12ab34 -- (x)...",
      `a ${endOfText}b${endOfText}`,
      'naïve 日本語 👩‍👩‍👧 \u00a0\u2028 end',
      ' ',
      '\n',
      '',
    ];
    for (const text of samples) {
      expect([...tokenizer.encode(text)]).toEqual(library.encode(text, { add_special_tokens: false }));
    }
  });

  it('encodes a word alike at the start of a text and inside', () => {
    const inside = tokenizer.encode('and lower');
    expect([...inside.slice(-tokenizer.encode('lower').length)]).toEqual([...tokenizer.encode('lower')]);
  });

  it('is reported as missing or damaged with a hint', async () => {
    const other = await mkdtemp(join(tmpdir(), 'tokenizer-'));
    await expect(readTokenizer(other)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await writeFile(join(other, 'tokenizer.json'), await readFile(join(folder, 'tokenizer.json')));
    await writeFile(join(other, 'tokenizer_config.json'), '{}');
    await expect(readTokenizer(other)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await rm(other, { recursive: true });
  });
});
