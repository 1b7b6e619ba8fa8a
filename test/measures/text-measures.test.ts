import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

import { jensenShannon, totalVariation } from '../../measures/distributions.ts';
import {
  mean,
  meanFigure,
  NearTextIndex,
  resampledRows,
  selfBleu,
  SetCounter,
  standardDeviation,
  trainNaiveBayes,
} from '../../measures/index.ts';
import { jaccard } from '../../measures/near-texts.ts';
import { seededStream } from '../../privacy/noise.ts';

interface Golden {
  a: string[][];
  b: string[][];
  labels: number[];
  divergences: number[];
  lengthDivergence: number;
  distinct: number[];
  bleu: number[];
  predicted: number[];
  near: string[];
  similarities: number[][];
}

/** Of scipy, nltk and scikit-learn: see make-golden.py. */
const golden = JSON.parse(readFileSync(new URL('./golden.json', import.meta.url), 'utf8')) as Golden;

describe('whole sets', () => {
  it('differ and vary as scipy and counting say', () => {
    const counter = new SetCounter(0);
    const [a, b] = [counter.count(golden.a, []), counter.count(golden.b, [])];
    const { unigramDivergence, bigramDivergence, trigramDivergence, ...rest } = counter.compare(a, b);
    const divergences = [unigramDivergence, bigramDivergence, trigramDivergence];
    divergences.forEach((found, place) => expect(found).toBeCloseTo(golden.divergences[place]!, 12));
    expect(rest['lengthDivergence']).toBeCloseTo(golden.lengthDivergence, 12);
    golden.distinct.forEach((share, place) => expect(rest[`distinct${place + 1}`]).toBeCloseTo(share, 12));
    expect(rest).not.toHaveProperty('labelDistance');
  });

  it('are at 0 from themselves, at 1 from what shares nothing, and picks count as rows of their own', () => {
    const counter = new SetCounter(2);
    const a = counter.count([['x', 'y'], ['x'], []], [0, 0, 1]);
    const b = counter.count([['z'], ['z', 'z', 'z']], [1, 1]);
    expect(counter.compare(a, a)).toMatchObject({ unigramDivergence: 0, lengthDivergence: 0, labelDistance: 0 });
    expect(counter.compare(a, b)).toMatchObject({ unigramDivergence: 1, trigramDivergence: 1, distinct1: 2 / 3 });
    expect(counter.compare(a, b)['labelDistance']).toBeCloseTo(2 / 3, 12);
    const picked = counter.compare(a, a, { set: Int32Array.of(0, 0, 1), reference: Int32Array.of(0, 0, 1) });
    expect(picked).toMatchObject({ unigramDivergence: 0, distinct1: 2 / 5 });
  });

  it('have distances of what is not there and of unlike sizes', () => {
    expect([jensenShannon([0], [0]), jensenShannon([0], [2])]).toEqual([0, 1]);
    expect([totalVariation([0], [0]), totalVariation([3, 1], [0, 0]), totalVariation([3, 1], [1, 3])]).toEqual([
      0, 1, 0.5,
    ]);
    expect(() => jensenShannon([1], [1, 2])).toThrow(RangeError);
  });
});

describe('self-BLEU', () => {
  it('is what nltk gives each text against all others', () => {
    const found = selfBleu(golden.a);
    golden.bleu.forEach((score, text) => expect(found[text]).toBeCloseTo(score, 10));
  });

  it('is 1 of texts that are all the same, 0 of one that shares no word', () => {
    const same = ['a', 'b', 'c', 'd', 'e'];
    expect([...selfBleu([same, same, ['z']])]).toEqual([1, 1, 0]);
    expect(() => selfBleu([same])).toThrow(RangeError);
  });
});

describe('near texts', () => {
  const texts = golden.a.slice(0, 30).map((words) => words.join(' '));

  it('have the Jaccard similarity that comparing sets gives', () => {
    texts.forEach((text, i) =>
      golden.near.forEach((other, j) => expect(jaccard(text, other)).toBeCloseTo(golden.similarities[i]![j]!, 12)),
    );
  });

  it.each([0.1, 0.35, 0.5, 0.8, 1])('are all found from %d on, and no others', (similarity) => {
    const index = new NearTextIndex(texts, similarity);
    golden.near.forEach((other, j) => {
      const wanted = texts.flatMap((_, i) => (golden.similarities[i]![j]! >= similarity ? [i] : []));
      expect(index.near(other)).toEqual(wanted);
    });
  });

  it('are short ones and empty ones too', () => {
    expect(new NearTextIndex(['', 'ab', 'abc'], 0.8).near('ab')).toEqual([1]);
    expect(new NearTextIndex(['', 'ab', ''], 0.8).near('')).toEqual([0, 2]);
  });
});

it('naive Bayes gives the classes of scikit-learn', () => {
  const classifier = trainNaiveBayes(golden.a, golden.labels, 3);
  expect(golden.b.map((words) => classifier.classify(words))).toEqual(golden.predicted);
});

describe('the error of a mean over rows', () => {
  it('is the deviation that resamples of the rows give', () => {
    const values = [0, 0, 1, 3, 3, 7, 2, 0, 1, 1];
    const stream = seededStream(1, 'resamples of a test');
    const means = Array.from({ length: 20_000 }, () =>
      mean([...resampledRows(values.length, () => stream.uniform())].map((row) => values[row]!)),
    );
    const { value, error } = meanFigure(values);
    expect(value).toBeCloseTo(1.8, 12);
    // A deviation over 20,000 rounds has a relative error of 1 / sqrt(40,000).
    expect(Math.abs(standardDeviation(means) / error - 1)).toBeLessThan(5 / Math.sqrt(40_000));
  });
});
