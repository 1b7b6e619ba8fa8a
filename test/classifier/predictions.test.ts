import { describe, expect, it } from 'vitest';

import { WordCnn, type WordTable } from '../../learning/word-cnn/network.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import { encodeTexts, type EncodedTexts } from '../../learning/word-cnn/words.ts';
import { seededStream } from '../../privacy/noise.ts';

const shape: WordCnnShape = { buckets: 400, embedding: 24, filters: 5, widths: [1, 2], classes: 4 };
const { widest } = wordCnnSizes(shape);

/** A processor whose kernels follow the shape of a product rounds by how many words there are; here it does so visibly. */
class UnevenlyRounding extends WordCnn {
  override table(texts: EncodedTexts, batch: ArrayLike<number>): WordTable {
    const table = super.table(texts, batch);
    const unit = 2 ** -(table.numbers.length % 4);
    return { ...table, products: table.products.map((value) => Math.round(value / unit) * unit) };
  }
}

const model = new UnevenlyRounding(shape, initialWeights(shape, seededStream(3, 'predictions')));
seededStream(4, 'weights').fillGaussian(model.weights.flat, 0.5);
const words = seededStream(5, 'words');
const split = Array.from({ length: 60 }, () =>
  Array.from({ length: 3 + Math.floor(words.uniform() * 5) }, () => `w${Math.floor(words.uniform() * 200)}`).join(' '),
);

function predictionsOf(texts: readonly string[], isApart: boolean): number[] {
  const encoded = encodeTexts(texts, { buckets: shape.buckets, words: 12, shortest: widest });
  const all = texts.map((_, index) => index);
  return [...model.evaluate(encoded, all, null, { chunk: 8, isApart })].flatMap(({ predicted }) => [...predicted]);
}

describe('predictions of neighbouring test splits', () => {
  const neighbours = [0, 7, 30, 59].map((place) => ({ place, rest: split.filter((_, row) => row !== place) }));

  it.each(neighbours)('are the same for all other records when record $place is not there', ({ place, rest }) => {
    expect(predictionsOf(rest, true)).toEqual(predictionsOf(split, true).filter((_, row) => row !== place));
  });

  it('may not be so by products of the words of a chunk', () => {
    const differ = neighbours.filter(
      ({ place, rest }) =>
        predictionsOf(rest, false).join() !==
        predictionsOf(split, false)
          .filter((_, row) => row !== place)
          .join(),
    );
    expect(differ.length).toBeGreaterThan(0);
  });

  it('are those of the chunks, but for rounding', () => {
    const plain = new WordCnn(shape, model.weights);
    const encoded = encodeTexts(split, { buckets: shape.buckets, words: 12, shortest: widest });
    const all = split.map((_, index) => index);
    const labels = split.map((_, row) => row % 4);
    const [chunked, apart] = [false, true].map((isApart) =>
      [...plain.evaluate(encoded, all, labels, { isApart })].reduce((sum, { loss }) => sum + loss, 0),
    );
    expect(apart).toBeCloseTo(chunked!, 3);
  });
});
