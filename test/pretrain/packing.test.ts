import { describe, expect, it } from 'vitest';

import { holdOut, packDocuments, RowSampler, rowCount, takeRows } from '../../learning/pretraining/packing.ts';
import type { Tokenizer } from '../../learning/tokenizer/index.ts';

/** One token a character code; 0 ends a text. */
const characters: Tokenizer = {
  vocabularySize: 128,
  bosId: 0,
  eosId: 0,
  encode: (text) => Int32Array.from(text, (character) => character.charCodeAt(0)),
  decode: (ids) => String.fromCharCode(...ids),
};

describe('packing', () => {
  it('puts an end-of-text token before, between and after documents and counts bytes of text', () => {
    const { tokens, bytes } = packDocuments(characters, ['ab', 'c', '']);
    expect([...tokens]).toEqual([0, 97, 98, 0, 99, 0, 0]);
    expect(bytes).toBe(3);
    expect(packDocuments(characters, ['ü']).bytes).toBe(2);
  });

  it('keeps long streams whole', () => {
    const documents = Array.from({ length: 3_000 }, (_, index) => 'x'.repeat(index % 90));
    const { tokens, bytes } = packDocuments(characters, documents);
    expect(tokens).toHaveLength(bytes + documents.length + 1);
    expect(tokens.reduce((ends, id) => ends + (id === 0 ? 1 : 0), 0)).toBe(documents.length + 1);
  });

  it('cuts rows that overlap by the predicted token, and masks what lies beyond the end', () => {
    const stream = Int32Array.from({ length: 9 }, (_, index) => index + 1);
    expect(rowCount(stream, 3)).toBe(3);
    expect(rowCount(stream.subarray(0, 8), 3)).toBe(3);
    expect(rowCount(stream.subarray(0, 7), 3)).toBe(2);
    const { tokens, mask } = takeRows(stream, [0, 2, 5], 3);
    expect([...tokens]).toEqual([1, 2, 3, 4, 7, 8, 9, 0, 0, 0, 0, 0]);
    expect([...mask]).toEqual([1, 1, 1, 1, 1, 0, 0, 0, 0]);
  });

  it('predicts each token of the stream but the first exactly once a pass', () => {
    const { tokens } = packDocuments(characters, ['hello', 'world', 'again']);
    const rows = rowCount(tokens, 4);
    const packed = takeRows(
      tokens,
      Int32Array.from({ length: rows }, (_, row) => row),
      4,
    );
    const predicted = [...packed.mask].flatMap((weight, at) =>
      weight === 1 ? packed.tokens[Math.floor(at / 4) * 5 + (at % 4) + 1]! : [],
    );
    expect(predicted).toEqual([...tokens.subarray(1)]);
  });
});

describe('the order of rows', () => {
  it('takes each row once a pass, in another order each time, from any step on', () => {
    const sampler = new RowSampler(10, 4, 7);
    const drawn = Array.from({ length: 5 }, (_, step) => [...sampler.rowsOf(step)]);
    const passes = [drawn.flat().slice(0, 10), drawn.flat().slice(10, 20)];
    for (const pass of passes) expect([...pass].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(passes[0]).not.toEqual(passes[1]);
    expect([...new RowSampler(10, 4, 7).rowsOf(3)]).toEqual(drawn[3]);
    expect([...new RowSampler(10, 4, 8).rowsOf(0)]).not.toEqual(drawn[0]);
  });
});

describe('held-out documents', () => {
  const documents = Array.from({ length: 100 }, (_, index) => `document ${index}`);

  it('are the stated share, apart from the others, and fixed by the seed', () => {
    const { training, heldOut } = holdOut(documents, 0.1, 3);
    expect(heldOut).toHaveLength(10);
    expect([...training, ...heldOut].sort()).toEqual([...documents].sort());
    expect(holdOut(documents, 0.1, 3)).toEqual({ training, heldOut });
    expect(holdOut(documents, 0.1, 4).heldOut).not.toEqual(heldOut);
  });

  it('are at least one and never all', () => {
    expect(holdOut(documents, 0, 1).heldOut).toHaveLength(1);
    expect(holdOut(documents, 1, 1).training).toHaveLength(1);
  });
});
