/**
 * @file The word-level CNN on one text, given the products of words and filters: forward pass, loss, and the gradient by
 * the filters' responses. Loads no TensorFlow, so that threads can import it.
 */

import { type WordCnnShape, wordCnnSizes, type WordCnnSizes, type WordCnnWeights } from './parameters.ts';

/** Texts as places of their words in a table of products. */
export interface ProductTable {
  /** Place of each word of the texts in the table, texts one behind the other. */
  places: Int32Array;
  /** [texts + 1] where each text begins in `places`. */
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

export class TextNetwork {
  readonly shape: WordCnnShape;
  readonly sizes: WordCnnSizes;
  weights: WordCnnWeights;
  private readonly scratch: Float32Array;

  constructor(shape: WordCnnShape, weights: WordCnnWeights) {
    this.shape = shape;
    this.sizes = wordCnnSizes(shape);
    this.weights = weights;
    this.scratch = new Float32Array(shape.filters);
  }

  newPass(): TextPass {
    const { features } = this.sizes;
    return {
      pooled: new Float32Array(features),
      windows: new Int32Array(features),
      outputs: new Float64Array(this.shape.classes),
    };
  }

  /**
   * Forward pass of text `index` of the table's batch, into `pass`: class probabilities in `outputs`.
   *
   * @param dropout factors of the pooled features, [features] from `dropoutFrom`: 0 or 1 / (1 - rate); none at all
   *   when null.
   */
  forward(table: ProductTable, index: number, pass: TextPass, dropout: Float32Array | null, dropoutFrom = 0): void {
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
  private pool(table: ProductTable, index: number, pass: TextPass): void {
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
}
