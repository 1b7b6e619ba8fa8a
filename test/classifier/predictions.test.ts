import { describe, expect, it } from 'vitest';

import { predictions, scoreOf, type Predictions } from '../../learning/classifier/predictions.ts';
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

function said(
  of: WordCnn,
  texts: readonly string[],
  options: { chunk?: number; isApart: boolean },
): Promise<Predictions> {
  const encoded = encodeTexts(texts, { buckets: shape.buckets, words: 12, shortest: widest });
  const size = { records: texts.length, classes: shape.classes };
  const all = [...texts.keys()];
  return predictions(
    (into) => of.evaluate(encoded, all, into, options),
    size,
    () => Promise.resolve(),
  );
}

async function predictionsOf(texts: readonly string[], isApart: boolean): Promise<number[]> {
  return [...(await said(model, texts, { chunk: 8, isApart })).predicted];
}

describe('predictions of neighbouring test splits', () => {
  const neighbours = [0, 7, 30, 59].map((place) => ({ place, rest: split.filter((_, row) => row !== place) }));

  it.each(neighbours)('are the same for all other records when record $place is not there', async ({ place, rest }) => {
    const whole = await predictionsOf(split, true);
    expect(await predictionsOf(rest, true)).toEqual(whole.filter((_, row) => row !== place));
  });

  it('may not be so by products of the words of a chunk', async () => {
    const whole = await predictionsOf(split, false);
    const others = await Promise.all(neighbours.map(({ rest }) => predictionsOf(rest, false)));
    const differ = neighbours.filter(
      ({ place }, index) => others[index]!.join() !== whole.filter((_, row) => row !== place).join(),
    );
    expect(differ.length).toBeGreaterThan(0);
  });

  it('are those of the chunks, but for rounding', async () => {
    const plain = new WordCnn(shape, model.weights);
    const labels = split.map((_, row) => row % 4);
    const lossOf = async (isApart: boolean): Promise<number> =>
      scoreOf(await said(plain, split, { isApart }), labels).loss;
    expect(await lossOf(true)).toBeCloseTo(await lossOf(false), 4);
  });
});
