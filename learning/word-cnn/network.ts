/**
 * @file The word-level CNN (Kim 2014, arXiv 1408.5882) on batches: embedding, one convolution for each width, ReLU,
 * maximum over time, dropout, linear layer, softmax.
 *
 * A filter's response at a place is a sum over the window's offsets of (word vector . weight row). So the products of
 * all distinct words of a batch with all weight rows are one matrix product, `table[word, row]`, in TensorFlow; what is
 * left is adding up table entries and taking maxima. Backwards, a filter passes gradient to one window only, hence to
 * `width` entries of the table; the gradients of filters and word vectors are again one matrix product each over the
 * distinct words. That is a fraction of the arithmetic of a dense convolution and its two gradients, and gives each
 * example's gradient in sparse form, which exact clipping needs.
 */

import { setPrediction, type Predictions } from '../classifier/predictions.ts';
import { tf } from '../tensorflow.ts';
import type { WordCnnShape, WordCnnWeights } from './parameters.ts';
import { TextNetwork, type ProductTable, type TextPass } from './text-network.ts';
import { paddingWord, type EncodedTexts } from './words.ts';

/** The distinct words of a batch, and products with the filters. */
export interface WordTable extends ProductTable {
  /** [count] word numbers. */
  numbers: Int32Array;
}

/** Gradient entries over a batch: dense parts are summed, those of words stand beside the batch's table. */
export interface BatchGradient {
  /** [count, rows]: gradient by the table. */
  products: Float32Array;
  convolutionBias: Float32Array;
  dense: Float32Array;
  denseBias: Float32Array;
}

/** Gathers the distinct words of some texts. `slots` is scratch of [buckets], all -1 before and after. */
export function gatherWords(
  texts: EncodedTexts,
  batch: ArrayLike<number>,
  slots: Int32Array,
): Omit<WordTable, 'products'> {
  const starts = new Int32Array(batch.length + 1);
  for (let index = 0; index < batch.length; index++) {
    const text = batch[index]!;
    starts[index + 1] = starts[index]! + texts.starts[text + 1]! - texts.starts[text]!;
  }
  const places = new Int32Array(starts[batch.length]!);
  const numbers: number[] = [];
  let at = 0;
  for (let index = 0; index < batch.length; index++) {
    const end = texts.starts[batch[index]! + 1]!;
    for (let word = texts.starts[batch[index]!]!; word < end; word++) {
      const number = texts.words[word]!;
      let slot = slots[number]!;
      if (slot < 0) {
        slot = numbers.length;
        slots[number] = slot;
        numbers.push(number);
      }
      places[at++] = slot;
    }
  }
  for (const number of numbers) slots[number] = -1;
  return { numbers: Int32Array.from(numbers), places, starts };
}

/** [count, embedding]: the vectors of some words. */
export function wordVectors(weights: WordCnnWeights, shape: WordCnnShape, numbers: Int32Array): Float32Array {
  const width = shape.embedding;
  const vectors = new Float32Array(numbers.length * width);
  for (let index = 0; index < numbers.length; index++) {
    const from = numbers[index]! * width;
    vectors.set(weights.embedding.subarray(from, from + width), index * width);
  }
  return vectors;
}

/** a [m, k] times b, as [m, n]; b is [n, k] when `transposeB`, a is [k, m] when `transposeA`. */
function multiply(
  a: Float32Array,
  b: Float32Array,
  shapes: { a: [number, number]; b: [number, number]; transposeA?: boolean; transposeB?: boolean },
): Float32Array {
  const left = tf.tensor2d(a, shapes.a);
  const right = tf.tensor2d(b, shapes.b);
  const product = tf.matMul(left, right, shapes.transposeA ?? false, shapes.transposeB ?? false);
  const values = product.dataSync() as Float32Array;
  // Not tf.tidy: it would walk over every element of the array that it returns.
  tf.dispose([left, right, product]);
  return values;
}

export class WordCnn extends TextNetwork {
  private readonly slots: Int32Array;

  constructor(shape: WordCnnShape, weights: WordCnnWeights) {
    super(shape, weights);
    this.slots = new Int32Array(shape.buckets).fill(-1);
  }

  /** The table of a batch of texts. An empty batch has an empty one. */
  table(texts: EncodedTexts, batch: ArrayLike<number>): WordTable {
    const words = gatherWords(texts, batch, this.slots);
    const count = words.numbers.length;
    const { rows } = this.sizes;
    const products =
      count === 0
        ? new Float32Array(0)
        : multiply(wordVectors(this.weights, this.shape, words.numbers), this.weights.convolution, {
            a: [count, this.shape.embedding],
            b: [rows, this.shape.embedding],
            transposeB: true,
          });
    return { ...words, products };
  }

  /** [buckets, rows] products of all words there are: nothing in them depends on which texts are looked at. */
  vocabularyProducts(): Float32Array {
    const { buckets, embedding } = this.shape;
    return multiply(this.weights.embedding, this.weights.convolution, {
      a: [buckets, embedding],
      b: [this.sizes.rows, embedding],
      transposeB: true,
    });
  }

  newGradient(table: WordTable): BatchGradient {
    const { features, rows } = this.sizes;
    return {
      products: new Float32Array(table.numbers.length * rows),
      convolutionBias: new Float32Array(features),
      dense: new Float32Array(features * this.shape.classes),
      denseBias: new Float32Array(this.shape.classes),
    };
  }

  /** Adds `scale` times the gradient of one text to the batch's. */
  accumulate(
    table: WordTable,
    index: number,
    pass: TextPass,
    responses: Float32Array,
    scale: number,
    into: BatchGradient,
  ): void {
    const { classes, filters, widths } = this.shape;
    const { rows } = this.sizes;
    const { pooled, windows, outputs } = pass;
    for (let c = 0; c < classes; c++) into.denseBias[c]! += scale * outputs[c]!;
    const first = table.starts[index]!;
    let row = 0;
    for (let k = 0; k < widths.length; k++) {
      const width = widths[k]!;
      for (let f = 0; f < filters; f++) {
        const feature = k * filters + f;
        if (pooled[feature] !== 0) {
          for (let c = 0; c < classes; c++) {
            into.dense[feature * classes + c]! += scale * pooled[feature]! * outputs[c]!;
          }
        }
        const gradient = scale * responses[feature]!;
        if (gradient === 0) continue;
        into.convolutionBias[feature]! += gradient;
        const start = first + windows[feature]!;
        for (let offset = 0; offset < width; offset++) {
          into.products[table.places[start + offset]! * rows + row + offset * filters + f]! += gradient;
        }
      }
      row += width * filters;
    }
  }

  /** Gradients by filters [rows, embedding] and by the table's word vectors [count, embedding]; padding's is zero. */
  wordGradients(
    table: WordTable,
    gradient: BatchGradient,
  ): { convolution: Float32Array; vectors: Float32Array | null } {
    const count = table.numbers.length;
    const { rows } = this.sizes;
    const { embedding } = this.shape;
    if (count === 0) return { convolution: new Float32Array(rows * embedding), vectors: null };
    const convolution = multiply(gradient.products, wordVectors(this.weights, this.shape, table.numbers), {
      a: [count, rows],
      b: [count, embedding],
      transposeA: true,
    });
    const vectors = multiply(gradient.products, this.weights.convolution, {
      a: [count, rows],
      b: [rows, embedding],
    });
    const padding = table.numbers.indexOf(paddingWord);
    if (padding >= 0) vectors.fill(0, padding * embedding, (padding + 1) * embedding);
    return { convolution, vectors };
  }

  /**
   * Writes what is said of each text to `into`, in chunks; yields how many are done.
   *
   * @param isApart takes products of the whole vocabulary, so that no bit of a text's prediction depends on which other
   *   texts there are; otherwise those of a chunk's words, which costs less.
   */
  *evaluate(
    texts: EncodedTexts,
    chosen: ArrayLike<number>,
    into: Predictions,
    { chunk = 512, isApart = false } = {},
  ): Generator<number> {
    const pass = this.newPass();
    const whole = isApart ? { places: texts.words, starts: texts.starts, products: this.vocabularyProducts() } : null;
    for (let from = 0; from < chosen.length; from += chunk) {
      const batch = Int32Array.from({ length: Math.min(chunk, chosen.length - from) }, (_, i) => chosen[from + i]!);
      const table = whole ?? this.table(texts, batch);
      for (let index = 0; index < batch.length; index++) {
        this.forward(table, whole === null ? index : batch[index]!, pass, null);
        setPrediction(into, from + index, pass.outputs);
      }
      yield from + batch.length;
    }
  }
}
