/**
 * @file Forward and backward pass of the word-level CNN (Kim 2014, arXiv 1408.5882): embedding, one convolution for
 * each width, ReLU, maximum over time, dropout, linear layer, softmax.
 *
 * A filter's response at a place is a sum over the window's offsets of (word vector . weight row). So the products of
 * all distinct words of a batch with all weight rows are one matrix product, `table[word, row]`, in TensorFlow; what is
 * left is adding up table entries and taking maxima. Backwards, a filter passes gradient to one window only, hence to
 * `width` entries of the table; the gradients of filters and word vectors are again one matrix product each over the
 * distinct words. That is a fraction of the arithmetic of a dense convolution and its two gradients, and gives each
 * example's gradient in sparse form, which exact clipping needs.
 */

import { tf } from '../tensorflow.ts';
import { paddingWord, type EncodedTexts } from './words.ts';
import { type WordCnnShape, wordCnnSizes, type WordCnnSizes, type WordCnnWeights } from './parameters.ts';

/** The distinct words of a batch, and products with the filters. */
export interface WordTable {
  /** [count] word numbers. */
  numbers: Int32Array;
  /** Place of each word of the batch's texts in `numbers`, texts one behind the other. */
  places: Int32Array;
  /** [batch + 1] where each text begins in `places`. */
  starts: Int32Array;
  /** [count, rows]: word vector . weight row. */
  products: Float32Array;
}

/** What the pass over one text leaves, reused from text to text. */
export interface TextPass {
  /** [features] after ReLU, maximum and dropout. */
  pooled: Float32Array;
  /** [features] window of the maximum. */
  windows: Int32Array;
  /** [classes] probabilities, and after `lossGradient` the gradient of the loss by the logits. */
  outputs: Float64Array;
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

export class WordCnn {
  readonly shape: WordCnnShape;
  readonly sizes: WordCnnSizes;
  weights: WordCnnWeights;
  private readonly slots: Int32Array;
  private readonly scratch: Float32Array;

  constructor(shape: WordCnnShape, weights: WordCnnWeights) {
    this.shape = shape;
    this.sizes = wordCnnSizes(shape);
    this.weights = weights;
    this.slots = new Int32Array(shape.buckets).fill(-1);
    this.scratch = new Float32Array(shape.filters);
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

  /**
   * The table of all words there are, for any of `texts` by its number: nothing in it depends on which texts are looked
   * at. Takes [buckets, rows] numbers.
   */
  vocabularyTable(texts: EncodedTexts): WordTable {
    const { buckets, embedding } = this.shape;
    const products = multiply(this.weights.embedding, this.weights.convolution, {
      a: [buckets, embedding],
      b: [this.sizes.rows, embedding],
      transposeB: true,
    });
    return {
      numbers: Int32Array.from({ length: buckets }, (_, number) => number),
      places: texts.words,
      starts: texts.starts,
      products,
    };
  }

  newPass(): TextPass {
    const { features } = this.sizes;
    return {
      pooled: new Float32Array(features),
      windows: new Int32Array(features),
      outputs: new Float64Array(this.shape.classes),
    };
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

  /**
   * Forward pass of text `index` of the table's batch, into `pass`: class probabilities in `outputs`.
   *
   * @param dropout factors of the pooled features, [features] from `dropoutFrom`: 0 or 1 / (1 - rate); none at all
   *   when null.
   */
  forward(table: WordTable, index: number, pass: TextPass, dropout: Float32Array | null, dropoutFrom = 0): void {
    this.pool(table, index, pass);
    const { pooled, outputs } = pass;
    const { classes } = this.shape;
    const { dense, denseBias } = this.weights;
    if (dropout !== null) for (let f = 0; f < pooled.length; f++) pooled[f]! *= dropout[dropoutFrom + f]!;
    for (let c = 0; c < classes; c++) outputs[c] = denseBias[c]!;
    for (let f = 0; f < pooled.length; f++) {
      const value = pooled[f]!;
      if (value === 0) continue;
      for (let c = 0; c < classes; c++) outputs[c]! += value * dense[f * classes + c]!;
    }
    let highest = -Infinity;
    for (let c = 0; c < classes; c++) highest = Math.max(highest, outputs[c]!);
    let total = 0;
    for (let c = 0; c < classes; c++) total += outputs[c] = Math.exp(outputs[c]! - highest);
    for (let c = 0; c < classes; c++) outputs[c]! /= total;
  }

  /** Responses, ReLU and maximum over time. */
  private pool(table: WordTable, index: number, pass: TextPass): void {
    const { products, places } = table;
    const { rows } = this.sizes;
    const { filters, widths } = this.shape;
    const bias = this.weights.convolutionBias;
    const { pooled, windows } = pass;
    const scratch = this.scratch;
    const first = table.starts[index]!;
    const count = table.starts[index + 1]! - first;
    // A response that is no number beats none, and must not leave the window of another text.
    windows.fill(0);
    let row = 0;
    for (let k = 0; k < widths.length; k++) {
      const width = widths[k]!;
      const feature = k * filters;
      for (let f = 0; f < filters; f++) pooled[feature + f] = -Infinity;
      const last = width - 1;
      for (let window = 0; window <= count - width; window++) {
        const start = first + window;
        // Two offsets a pass, and the last one together with the maximum: passes over memory are what costs here.
        for (let offset = 0; offset < last; offset += 2) {
          const one = places[start + offset]! * rows + row + offset * filters;
          const two = offset + 1 < last ? places[start + offset + 1]! * rows + row + (offset + 1) * filters : -1;
          if (offset === 0 && two >= 0) {
            for (let f = 0; f < filters; f++) scratch[f] = products[one + f]! + products[two + f]!;
          } else if (offset === 0) {
            for (let f = 0; f < filters; f++) scratch[f] = products[one + f]!;
          } else if (two >= 0) {
            for (let f = 0; f < filters; f++) scratch[f]! += products[one + f]! + products[two + f]!;
          } else {
            for (let f = 0; f < filters; f++) scratch[f]! += products[one + f]!;
          }
        }
        const from = places[start + last]! * rows + row + last * filters;
        for (let f = 0; f < filters; f++) {
          const response = last === 0 ? products[from + f]! : scratch[f]! + products[from + f]!;
          if (response > pooled[feature + f]!) {
            pooled[feature + f] = response;
            windows[feature + f] = window;
          }
        }
      }
      for (let f = 0; f < filters; f++) {
        const response = pooled[feature + f]! + bias[feature + f]!;
        pooled[feature + f] = response > 0 ? response : 0;
      }
      row += width * filters;
    }
  }

  /** Turns probabilities in `pass.outputs` into the gradient of cross-entropy by the logits; returns the loss, nats. */
  lossGradient(pass: TextPass, label: number): number {
    const probability = pass.outputs[label]!;
    pass.outputs[label] = probability - 1;
    return -Math.log(Math.max(probability, 1e-38));
  }

  /**
   * Gradient by the filters' responses at their windows, [features], from the gradient by the logits. Zero where the
   * ReLU or dropout is shut.
   */
  responseGradient(pass: TextPass, out: Float32Array, dropout: Float32Array | null, dropoutFrom = 0): void {
    const { classes } = this.shape;
    const { dense } = this.weights;
    const { pooled, outputs } = pass;
    for (let f = 0; f < pooled.length; f++) {
      let value = 0;
      if (pooled[f]! > 0) {
        for (let c = 0; c < classes; c++) value += dense[f * classes + c]! * outputs[c]!;
        if (dropout !== null) value *= dropout[dropoutFrom + f]!;
      }
      out[f] = value;
    }
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

  /** Most probable class and loss (nats, when labels are given) of each text; texts go through in chunks. */
  *evaluate(
    texts: EncodedTexts,
    chosen: ArrayLike<number>,
    labels: ArrayLike<number> | null,
    chunk = 512,
  ): Generator<{ predicted: Int32Array; loss: number; done: number }> {
    const pass = this.newPass();
    for (let from = 0; from < chosen.length; from += chunk) {
      const batch = Int32Array.from({ length: Math.min(chunk, chosen.length - from) }, (_, i) => chosen[from + i]!);
      const table = this.table(texts, batch);
      const predicted = new Int32Array(batch.length);
      let loss = 0;
      for (let index = 0; index < batch.length; index++) {
        this.forward(table, index, pass, null);
        let best = 0;
        for (let c = 1; c < pass.outputs.length; c++) if (pass.outputs[c]! > pass.outputs[best]!) best = c;
        predicted[index] = best;
        if (labels !== null) loss -= Math.log(Math.max(pass.outputs[labels[batch[index]!]!]!, 1e-38));
      }
      yield { predicted, loss, done: from + batch.length };
    }
  }
}
