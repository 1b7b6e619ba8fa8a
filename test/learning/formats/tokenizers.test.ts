/** @file Tokenizers of GGUF files and of llama2.c against ids that other libraries gave (`fixtures/make-tokenizers.py`). */

import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import type { GgufValue } from '../../../learning/formats/gguf-file.ts';
import { parseGgufTokenizer } from '../../../learning/formats/gguf-tokenizer.ts';
import { readTokenizer } from '../../../learning/formats/model.ts';
import { makeTokenizer } from '../../../learning/tokenizer/index.ts';
import { requires } from '../../requires.ts';
import { sharedData } from '../../shared-data.ts';

interface Vocabulary<Ids> {
  tokens: string[];
  types: number[];
  ids: Ids;
}

interface Fixture {
  texts: string[];
  bytePairs: Vocabulary<Record<string, number[][]>> & { merges: string[] };
  sentencePieces: Vocabulary<number[][]> & { scores: number[] };
}

const { texts, bytePairs, sentencePieces } = JSON.parse(
  await readFile(new URL('../fixtures/tokenizers.json', import.meta.url), 'utf8'),
) as Fixture;

const metadata = (values: Record<string, GgufValue>): Map<string, GgufValue> =>
  new Map(Object.entries(values).map(([key, value]) => [`tokenizer.ggml.${key}`, value]));

const bytePairMetadata = (pre: string): Map<string, GgufValue> => {
  const { tokens, types, merges } = bytePairs;
  return metadata({ model: 'gpt2', pre, tokens, token_type: types, merges, bos_token_id: 0, eos_token_id: 0 });
};

const sentencePieceMetadata = (changes: Record<string, GgufValue> = {}): Map<string, GgufValue> => {
  const { tokens, types, scores } = sentencePieces;
  const special = { bos_token_id: 1, eos_token_id: 2 };
  return metadata({ model: 'llama', tokens, token_type: types, scores, ...special, ...changes });
};

const tokenizerOf = (values: ReadonlyMap<string, GgufValue>) =>
  makeTokenizer('model.gguf', parseGgufTokenizer('model.gguf', values));

describe.each(Object.keys(bytePairs.ids))('byte pairs of words split as %s', (pre) => {
  const tokenizer = tokenizerOf(bytePairMetadata(pre));

  it('gives the ids of another library', () => {
    expect(texts.map((text) => Array.from(tokenizer.encode(text)))).toEqual(bytePairs.ids[pre]);
  });

  it('gives the text back', () => {
    for (const text of texts.filter((each) => !each.includes('<|mark|>'))) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });
});

describe('pieces of SentencePiece', () => {
  const tokenizer = tokenizerOf(sentencePieceMetadata());

  it('are those of SentencePiece itself', () => {
    for (const [at, text] of texts.entries()) {
      // As in llama.cpp, and other than in SentencePiece, a text starts anew after a mark.
      if (text.includes('<|mark|>')) continue;
      expect(Array.from(tokenizer.encode(text))).toEqual(sentencePieces.ids[at]);
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });

  it('get no space in front where the file says so', () => {
    const plain = tokenizerOf(sentencePieceMetadata({ add_space_prefix: false }));
    expect(plain.encode('License')[0]).not.toBe(tokenizer.encode('License')[0]);
    expect(plain.encode(' License')).toEqual(tokenizer.encode('License'));
    expect(plain.decode(plain.encode('License'))).toBe('License');
  });
});

describe('a tokenizer that is not known', () => {
  it.each<[string, Map<string, GgufValue>, RegExp]>([
    ['no tokenizer', new Map(), /tokenizer.ggml.tokens is missing/],
    ['another model', metadata({ model: 'bert', tokens: ['a'] }), /its tokenizer is "bert"/],
    ['another way to split', bytePairMetadata('viking'), /splits text as "viking"/],
    ['an end token beyond the vocabulary', sentencePieceMetadata({ eos_token_id: 999 }), /eos_token_id is no token/],
  ])('is refused for %s', (_name, values, message) => {
    expect(() => tokenizerOf(values)).toThrow(message);
    expect(() => tokenizerOf(values)).toThrow(expect.objectContaining({ code: 'MODEL_INVALID' }));
  });
});

const hasModel = requires('shared-data', 'the tokenizer of a model of llama2.c');

describe.runIf(hasModel)('the tokenizer beside a checkpoint of llama2.c', () => {
  it('gives the known ids of a text, and the text back', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'llama2c-'));
    try {
      const model = join(folder, 'model.bin');
      await copyFile(join(sharedData, 'stories260k', 'stories260K.bin'), model);
      await expect(readTokenizer(model)).rejects.toMatchObject({ code: 'MODEL_MISSING' });
      await copyFile(join(sharedData, 'stories260k', 'tok512.bin'), join(folder, 'tokenizer.bin'));
      const tokenizer = await readTokenizer(model);
      const text = 'Once upon a time, there was a little girl named Lily.';
      const ids = [403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426];
      expect(Array.from(tokenizer.encode(text)).slice(0, ids.length)).toEqual(ids);
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      expect([tokenizer.bosId, tokenizer.eosId, tokenizer.vocabularySize]).toEqual([1, 2, 512]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
