import type { Rank, Tensor2D, Tensor3D } from '@tensorflow/tfjs-node-gpu';
import { describe, expect, it } from 'vitest';

import { gridFor } from '../../learning/dp/grid.ts';
import { tf } from '../../learning/tensorflow.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import { ClippedGradients, namedWeights } from '../../learning/word-cnn/private-training.ts';
import { encodeTexts, type EncodedTexts } from '../../learning/word-cnn/words.ts';
import { seededStream } from '../../privacy/noise.ts';

const shape: WordCnnShape = { buckets: 12, embedding: 5, filters: 7, widths: [1, 2, 4], classes: 3 };
const { features, rows, widest } = wordCnnSizes(shape);
// Few buckets, so that words repeat within a text and between texts; some texts are shorter than the widest filter.
const texts = ['a b a a c d e', '', 'x', 'one two three four five six seven eight nine', 'b b b b b b', 'c a', 'e d c'];
const data = {
  texts: encodeTexts(texts, { buckets: shape.buckets, words: 8, shortest: widest }),
  labels: Int32Array.from(texts, (_, index) => index % 3),
};

function model(): WordCnn {
  const weights = initialWeights(shape, seededStream(5, 'gradient test'));
  seededStream(6, 'biases').fillGaussian(weights.convolutionBias, 0.3);
  return new WordCnn(shape, weights);
}

/** Gradient of one text's loss by automatic differentiation of a dense convolution: shares no code with the model. */
function reference(of: WordCnn, encoded: EncodedTexts, text: number, label: number): Record<string, Float32Array> {
  const words = Array.from(encoded.words.subarray(encoded.starts[text]!, encoded.starts[text + 1]!));
  const { embedding: dim, filters, widths, classes, buckets } = shape;
  const loss = (
    embedding: ReturnType<typeof tf.tensor>,
    convolution: ReturnType<typeof tf.tensor>,
    convolutionBias: ReturnType<typeof tf.tensor>,
    dense: ReturnType<typeof tf.tensor>,
    denseBias: ReturnType<typeof tf.tensor>,
  ): ReturnType<typeof tf.scalar> => {
    const known = tf.tensor2d(words, [words.length, 1], 'int32').greater(0).toFloat();
    const vectors = tf.gather(embedding, tf.tensor1d(words, 'int32')).mul(known);
    let row = 0;
    const pooled = widths.map((width, k) => {
      const filter = convolution
        .slice([row, 0], [width * filters, dim])
        .reshape([width, filters, dim])
        .transpose([0, 2, 1]);
      row += width * filters;
      const image = vectors.reshape([1, words.length, dim]) as Tensor3D;
      const responses = tf.conv1d(image, filter as Tensor3D, 1, 'valid').squeeze<Tensor2D>([0]);
      // One window gets the gradient, also where several have the same response.
      const chosen = tf.buffer<Rank.R2>(responses.shape);
      responses
        .argMax(0)
        .dataSync()
        .forEach((window, f) => chosen.set(1, window, f));
      return responses
        .mul(chosen.toTensor())
        .sum(0)
        .add(convolutionBias.slice([k * filters], [filters]))
        .relu();
    });
    const logits = tf.matMul(tf.concat(pooled).reshape([1, features]), dense as never).add(denseBias);
    return tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d([label], 'int32'), classes), logits) as never;
  };
  const { embedding, convolution, convolutionBias, dense, denseBias } = of.weights;
  const grads = tf.grads(loss as never)([
    tf.tensor(embedding, [buckets, dim]),
    tf.tensor(convolution, [rows, dim]),
    tf.tensor(convolutionBias),
    tf.tensor(dense, [features, classes]),
    tf.tensor(denseBias),
  ] as never) as ReturnType<typeof tf.tensor>[];
  const names = Object.keys(namedWeights(of.weights));
  return Object.fromEntries(grads.map((gradient, index) => [names[index], gradient.dataSync() as Float32Array]));
}

const norm = (gradient: Record<string, ArrayLike<number>>): number => {
  let total = 0;
  for (const values of Object.values(gradient)) for (let i = 0; i < values.length; i++) total += values[i]! ** 2;
  return Math.sqrt(total);
};

function largestDifference(a: Record<string, ArrayLike<number>>, b: Record<string, ArrayLike<number>>): number {
  let largest = 0;
  for (const [name, values] of Object.entries(a)) {
    for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]! - b[name]![i]!));
  }
  return largest;
}

const all = texts.map((_, index) => index);

/** Sums over some texts as plain numbers, in the gradient's own unit. */
function clippedSums(of: WordCnn, clipNorm: number, chosen: readonly number[]): Record<string, Float64Array> {
  const clipped = new ClippedGradients(of, data, clipNorm);
  for (const text of chosen) clipped.add(text);
  const { step } = gridFor(clipNorm);
  return Object.fromEntries(
    Object.entries(clipped.sums).map(([name, sum]) => [name, sum.map((units) => units * step)]),
  );
}

describe('clipped gradients of the word-CNN', () => {
  it('are the sum of the clipped gradients that automatic differentiation gives for each text', () => {
    const cnn = model();
    const singles = texts.map((_, text) => reference(cnn, data.texts, text, data.labels[text]!));
    const norms = singles.map(norm);
    // Between the norms, so that some texts are clipped and some are not.
    const clipNorm = [...norms].sort((a, b) => a - b)[3]! * 1.001;
    const expected: Record<string, Float64Array> = {};
    singles.forEach((gradient, text) => {
      const factor = Math.min(1, clipNorm / norms[text]!);
      for (const [name, values] of Object.entries(gradient)) {
        const sum = (expected[name] ??= new Float64Array(values.length));
        for (let i = 0; i < sum.length; i++) sum[i]! += factor * values[i]!;
      }
    });
    const sums = clippedSums(cnn, clipNorm, all);
    expect(norm(sums)).toBeGreaterThan(0.1);
    expect(largestDifference(expected, sums)).toBeLessThan(1e-5);
  });

  it('are integers that stay within the clip norm for every text, and near it when clipped', () => {
    const cnn = model();
    for (const clipNorm of [1e-3, 0.5]) {
      const grid = gridFor(clipNorm);
      for (const text of all) {
        const clipped = new ClippedGradients(cnn, data, clipNorm);
        clipped.add(text);
        let squares = 0n;
        for (const units of Object.values(clipped.sums)) for (const unit of units) squares += BigInt(unit) ** 2n;
        // As integers: the bound holds exactly.
        expect(squares <= BigInt(Math.floor(grid.clipNorm)) ** 2n).toBe(true);
        expect(Math.sqrt(Number(squares))).toBeGreaterThan(grid.clipNorm * 0.9999);
      }
    }
  });

  it('do not depend on neighbours, order or cutting by a single bit', () => {
    const cnn = model();
    const grid = clippedSums(cnn, 0.7, all);
    expect(clippedSums(cnn, 0.7, [...all].reverse())).toEqual(grid);
    const added = clippedSums(cnn, 0.7, []);
    for (const text of all) {
      for (const [name, sum] of Object.entries(clippedSums(cnn, 0.7, [text]))) {
        sum.forEach((value, index) => (added[name]![index]! += value));
      }
    }
    expect(added).toEqual(grid);
  });

  it('leave out a text whose gradient is not finite, and change no bit of others', () => {
    const cnn = model();
    const word = data.texts.words[data.texts.starts[4]!]!;
    expect(data.texts.words.subarray(data.texts.starts[2]!, data.texts.starts[3]!)).not.toContain(word);
    cnn.weights.embedding[word * shape.embedding] = 3e38;
    const finite = clippedSums(cnn, 0.7, [2]);
    expect(norm(finite)).toBeGreaterThan(0.01);
    expect(clippedSums(cnn, 0.7, [4, 2, 4])).toEqual(finite);
    expect(norm(clippedSums(cnn, 0.7, [4]))).toBe(0);
  });
});
