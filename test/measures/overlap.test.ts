import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { describe, expect, it } from 'vitest';

import { commonRuns, cutText, spansOf, type CommonRun } from '../../measures/overlap/index.ts';
import { commonPrefixes, suffixArray } from '../../measures/overlap/suffix-array.ts';
import { TokenReader } from '../../measures/overlap/tokens.ts';
import { seededStream } from '../../privacy/noise.ts';

const free = (): Promise<void> => Promise.resolve();
const stream = seededStream(1, 'overlap tests');
const below = (limit: number): number => Math.floor(stream.uniform() * limit);

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);
const words = (from: number, to: number): string =>
  range(from, to)
    .map((n) => `w${n}`)
    .join(' ');

function tokensOf(text: string): string[] {
  const reader = new TokenReader();
  reader.open(text);
  const tokens: string[] = [];
  while (reader.next()) tokens.push(String.fromCharCode(...reader.units.subarray(0, reader.length)));
  return tokens;
}

interface Found {
  corpus: CommonRun[];
  references: CommonRun[];
  tokens: number;
}

async function find(corpus: readonly string[], references: readonly string[], least: number): Promise<Found> {
  const runs = await commonRuns(corpus, references, least, free);
  return { corpus: [...runs.inCorpus()], references: [...runs.inReferences()], tokens: runs.tokens };
}

type Place = Omit<CommonRun, 'other'>;
const places = (runs: readonly CommonRun[]): Place[] => runs.map(({ text, from, to }) => ({ text, from, to }));

/** Every maximal run by its definition, of all stretches of all texts. */
function byDefinition(texts: readonly string[], others: readonly string[], least: number): Place[] {
  const held = new Set(
    others.flatMap((other) => {
      const tokens = tokensOf(other);
      return range(0, tokens.length).flatMap((from) =>
        range(from + 1, tokens.length + 1).map((to) => tokens.slice(from, to).join(' ')),
      );
    }),
  );
  return texts.flatMap((content, text) => {
    const tokens = tokensOf(content);
    const isCommon = (from: number, to: number): boolean =>
      from >= 0 && to <= tokens.length && held.has(tokens.slice(from, to).join(' '));
    return range(0, tokens.length).flatMap((from) =>
      range(from + least, tokens.length + 1)
        .filter((to) => isCommon(from, to) && !isCommon(from - 1, to) && !isCommon(from, to + 1))
        .map((to) => ({ text, from, to })),
    );
  });
}

describe('a suffix array', () => {
  it('has the suffixes in order, with what neighbours share', async () => {
    for (const length of [1, 2, 3, 5, 8, 40, 300]) {
      for (const symbols of [2, 3, 10, 400]) {
        const text = Int32Array.from({ length }, () => 1 + below(symbols - 1));
        text[length - 1] = 0;
        const suffix = (from: number): number[] => [...text.subarray(from)];
        const compare = (a: number[], b: number[]): number => {
          const place = a.findIndex((symbol, index) => symbol !== b[index]);
          return a[place]! - b[place]!;
        };
        const expected = range(0, length).sort((a, b) => compare(suffix(a), suffix(b)));
        const order = await suffixArray(text, symbols, free);
        expect([...order]).toEqual(expected);
        const shared = await commonPrefixes(text, order, free);
        for (let rank = 1; rank < length; rank++) {
          const [a, b] = [suffix(expected[rank - 1]!), suffix(expected[rank]!)];
          expect(shared[expected[rank]!]).toBe(a.findIndex((symbol, index) => symbol !== b[index]));
        }
        expect(shared[expected[0]!]).toBe(0);
      }
    }
  });

  it.each([
    ['one symbol', range(0, 500).map(() => 1)],
    ['a period', range(0, 500).map((n) => 1 + (n % 3))],
    ['Fibonacci words', [...fibonacci(12)].map((letter) => (letter === 'a' ? 1 : 2))],
    ['all distinct, falling', range(0, 500).map((n) => 500 - n)],
  ])('of %s', async (_what, symbols) => {
    const text = Int32Array.from([...symbols, 0]);
    const order = await suffixArray(text, 501, free);
    expect([...order].sort((a, b) => a - b)).toEqual(range(0, text.length));
    const shared = await commonPrefixes(text, order, free);
    for (let rank = 1; rank < text.length; rank++) {
      const [a, b] = [order[rank - 1]!, order[rank]!];
      const common = shared[b]!;
      const isShared = range(0, common).every((offset) => text[a + offset] === text[b + offset]);
      if (!isShared || text[a + common]! >= text[b + common]!) throw new Error(`Rank ${rank} is out of order.`);
    }
  });
});

function fibonacci(order: number): string {
  let [before, word] = ['b', 'a'];
  for (let step = 0; step < order; step++) [before, word] = [word, word + before];
  return word;
}

describe('tokens', () => {
  it.each([
    ['Don’t STOP—at 3.5 “quotes”\n(or breaks)', ['don', 't', 'stop', 'at', '3', '5', 'quotes', 'or', 'breaks']],
    ['', []],
    [' … --- !', []],
    ['café CAFE\u0301 ﬁne Ｆｕｌｌ', ['café', 'café', 'fine', 'full']],
    ['今日は寒い ok', ['今', '日', 'は', '寒', 'い', 'ok']],
    ['か\u3099 が', ['が', 'が']],
    ['한국어 문장', ['한국어', '문장']],
    ['𝒜bc 𠀀𠀁 😀 x', ['abc', '𠀀', '𠀁', 'x']],
    ['a\ud800b \udc00', ['a', 'b']],
    ['ΟΔΟΣ οδος', ['οδος', 'οδος']],
  ])('of %j', (text, expected) => {
    expect(tokensOf(text)).toEqual(expected.map((token) => token.normalize('NFKC')));
  });
});

describe('common runs', () => {
  it('are all maximal ones, as found by their definition', async () => {
    for (let round = 0; round < 300; round++) {
      const kinds = 1 + below(4);
      const text = (): string => Array.from({ length: below(14) }, () => `t${below(kinds)}`).join(' ');
      const corpus = Array.from({ length: below(6) }, text);
      const references = Array.from({ length: below(6) }, text);
      const least = 1 + below(6);
      const found = await find(corpus, references, least);
      expect(places(found.corpus)).toEqual(byDefinition(corpus, references, least));
      expect(places(found.references)).toEqual(byDefinition(references, corpus, least));
      expect(found.tokens).toBe(corpus.flatMap(tokensOf).length);
      for (const { text: at, from, to, other } of found.corpus) {
        const run = tokensOf(corpus[at]!).slice(from, to).join(' ');
        expect(` ${tokensOf(references[other]!).join(' ')} `).toContain(` ${run} `);
      }
    }
  });

  it('may overlap, where two records share words', async () => {
    const { corpus } = await find([words(0, 20)], [words(2, 9), words(6, 15)], 5);
    expect(corpus).toEqual([
      { text: 0, from: 2, to: 9, other: 0 },
      { text: 0, from: 6, to: 15, other: 1 },
    ]);
    expect([...spansOf(corpus)]).toEqual([{ text: 0, from: 2, to: 15, other: 1, longest: 9 }]);
  });

  it('cross no border of texts, on neither side', async () => {
    expect(await find([words(0, 5), words(5, 10)], [words(0, 10)], 6)).toMatchObject({ corpus: [], references: [] });
    expect(await find([words(0, 10)], [words(0, 5), words(5, 10)], 6)).toMatchObject({ corpus: [], references: [] });
    const { corpus } = await find([words(0, 5), words(5, 10)], [words(0, 5), words(5, 10)], 5);
    expect(places(corpus)).toEqual([
      { text: 0, from: 0, to: 5 },
      { text: 1, from: 0, to: 5 },
    ]);
  });

  it('are none where every text is shorter', async () => {
    expect(await find([words(0, 5)], [words(0, 5)], 6)).toEqual({ corpus: [], references: [], tokens: 5 });
    expect(await find([], [words(0, 5)], 1)).toEqual({ corpus: [], references: [], tokens: 0 });
    expect(await find(['', '!'], [''], 1)).toEqual({ corpus: [], references: [], tokens: 0 });
  });

  it('are whole texts where they are the same', async () => {
    const { corpus, references } = await find([words(0, 8), words(0, 8)], [words(0, 8), words(0, 8)], 3);
    for (const side of [corpus, references]) {
      expect(places(side)).toEqual([
        { text: 0, from: 0, to: 8 },
        { text: 1, from: 0, to: 8 },
      ]);
    }
  });

  it('do not depend on capitals, punctuation, line breaks or composition', async () => {
    const { corpus } = await find(['Ça va? «Très bien»,\n merci!'], ['c\u0327a VA tres très bien merci'], 3);
    expect(places(corpus)).toEqual([{ text: 0, from: 2, to: 5 }]);
  });

  it('are told apart by whole tokens', async () => {
    expect((await find(['one two three'], ['one two threes'], 3)).corpus).toEqual([]);
  });

  it('take no more than 11 bytes a byte of text, at whatever size', async () => {
    const script = fileURLToPath(new URL('overlap-memory-process.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--import', 'tsx', script]);
    const measured = JSON.parse(stdout) as number[];
    expect(measured).toHaveLength(2);
    for (const bytes of measured) {
      // Symbols and their order alone are four.
      expect(bytes).toBeGreaterThan(4);
      expect(bytes).toBeLessThan(11);
    }
  });
});

describe('a text that is cut', () => {
  it('is left as the pieces between its spans', () => {
    expect(
      cutText('“One, two! Three (four) five. Six; seven?', [
        { from: 1, to: 3 },
        { from: 5, to: 6 },
      ]),
    ).toEqual({ pieces: ['“One,', '(four) five.', '; seven?'], spans: ['two! Three', 'Six'] });
    expect(cutText('one two three', [{ from: 0, to: 3 }])).toEqual({ pieces: [], spans: ['one two three'] });
    expect(cutText('¿one two three?', [{ from: 0, to: 1 }])).toEqual({ pieces: ['two three?'], spans: ['one'] });
  });

  it('shares no run with the references any more', async () => {
    for (let round = 0; round < 100; round++) {
      const text = (): string => Array.from({ length: below(30) }, () => `t${below(3)}`).join(' ');
      const [corpus, references] = [Array.from({ length: 5 }, text), Array.from({ length: 3 }, text)];
      const least = 2 + below(4);
      const { corpus: runs } = await find(corpus, references, least);
      const spans = [...spansOf(runs)];
      const left = corpus.flatMap(
        (content, index) =>
          cutText(
            content,
            spans.filter((span) => span.text === index),
          ).pieces,
      );
      expect((await find(left, references, least)).corpus).toEqual([]);
      const cut = spans.reduce((sum, { from, to }) => sum + to - from, 0);
      expect(left.flatMap(tokensOf).length + cut).toBe(corpus.flatMap(tokensOf).length);
    }
  });
});
