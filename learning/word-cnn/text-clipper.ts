/**
 * @file What one text contributes to a sum of DP-SGD: its gradient over all weights, clipped and truncated to integers on
 * the grid. Loads no TensorFlow, so that threads can import it.
 */

import { gridFor, type Grid } from '../dp/grid.ts';
import { addUnits, clipToUnits } from '../dp/units.ts';
import type { WordCnnViews } from './parameters.ts';
import type { ProductTable, TextNetwork, TextPass } from './text-network.ts';
import { paddingWord } from './words.ts';

/** Adds clipped gradients of single texts to `sums`, in whole steps of the grid. */
export class TextClipper {
  private readonly network: TextNetwork;
  private readonly table: ProductTable;
  private readonly labels: Int32Array;
  private readonly sums: WordCnnViews<Float64Array>;
  private readonly grid: Grid;
  private readonly pass: TextPass;
  private readonly responses: Float32Array;
  /** Gradient of the text at hand: the dense layer's and the convolution's, each bias first, and its words' vectors. */
  private readonly gradient: Float64Array;
  /** Where the parts of `gradient` begin. */
  private readonly parts: { dense: number; convolutionBias: number; convolution: number; vectors: number };
  /** Distinct words of the text at hand that get gradient: word i has vector i of `gradient`. */
  private readonly met: Int32Array;
  /** [buckets] place of a word of the text at hand in `met`, -1 elsewhere. */
  private readonly slots: Int32Array;

  constructor(
    network: TextNetwork,
    table: ProductTable,
    labels: Int32Array,
    clipNorm: number,
    sums: WordCnnViews<Float64Array>,
  ) {
    const { features, rows } = network.sizes;
    const { buckets, classes, embedding } = network.shape;
    this.network = network;
    this.table = table;
    this.labels = labels;
    this.sums = sums;
    this.grid = gridFor(clipNorm);
    this.pass = network.newPass();
    this.responses = new Float32Array(features);
    const convolutionBias = classes + features * classes;
    const convolution = convolutionBias + features;
    this.parts = { dense: classes, convolutionBias, convolution, vectors: convolution + rows * embedding };
    // A row of the convolution meets one word of a text.
    const mostWords = Math.min(rows, buckets);
    this.gradient = new Float64Array(this.parts.vectors + mostWords * embedding);
    this.met = new Int32Array(mostWords);
    this.slots = new Int32Array(buckets).fill(-1);
  }

  /** Adds the clipped gradient of a text; returns its loss, nats. A text that is left out adds zero, and has loss 0. */
  add(text: number): number {
    const { network, pass, gradient, grid } = this;
    network.forward(this.table, text, pass, null);
    const loss = network.lossGradient(pass, this.labels[text]!);
    network.responseGradient(pass, this.responses, null);
    this.denseGradient();
    const words = this.filterGradient(this.table.starts[text]!);
    const length = this.parts.vectors + words * network.shape.embedding;
    if (!Number.isFinite(loss) || !clipToUnits(gradient, length, grid)) return 0;
    this.addAll(words);
    return loss;
  }

  /** Outer product of pooled features and logit gradient; the biases' gradients. */
  private denseGradient(): void {
    const { gradient, parts, responses } = this;
    const { pooled, outputs } = this.pass;
    const { classes } = this.network.shape;
    gradient.set(outputs);
    for (let f = 0; f < pooled.length; f++) {
      for (let c = 0; c < classes; c++) gradient[parts.dense + f * classes + c] = pooled[f]! * outputs[c]!;
    }
    gradient.set(responses, parts.convolutionBias);
  }

  /**
   * A filter's gradient is its response gradient times the vectors of its window. A word's vector collects from every
   * filter and every place where the word stands. Returns how many words have one.
   */
  private filterGradient(first: number): number {
    const { embedding: dim, filters, widths } = this.network.shape;
    const { embedding, convolution } = this.network.weights;
    const { gradient, parts, responses, met, slots, table } = this;
    const { windows } = this.pass;
    gradient.fill(0, parts.convolution, parts.vectors);
    let words = 0;
    let row = 0;
    for (let k = 0; k < widths.length; k++) {
      const width = widths[k]!;
      for (let f = 0; f < filters; f++) {
        const slope = responses[k * filters + f]!;
        if (slope === 0) continue;
        const start = first + windows[k * filters + f]!;
        for (let offset = 0; offset < width; offset++) {
          const word = table.places[start + offset]!;
          if (word === paddingWord) continue;
          let slot = slots[word]!;
          if (slot < 0) {
            slot = slots[word] = words++;
            met[slot] = word;
            gradient.fill(0, parts.vectors + slot * dim, parts.vectors + (slot + 1) * dim);
          }
          const weight = (row + offset * filters + f) * dim;
          const filter = parts.convolution + weight;
          const vector = parts.vectors + slot * dim;
          for (let d = 0; d < dim; d++) {
            gradient[filter + d] = slope * embedding[word * dim + d]!;
            gradient[vector + d]! += slope * convolution[weight + d]!;
          }
        }
      }
      row += width * filters;
    }
    for (let slot = 0; slot < words; slot++) slots[met[slot]!] = -1;
    return words;
  }

  private addAll(words: number): void {
    const { gradient, parts, sums, met } = this;
    const { embedding: dim } = this.network.shape;
    addUnits(sums.denseBias, 0, gradient, 0, parts.dense);
    addUnits(sums.dense, 0, gradient, parts.dense, parts.convolutionBias);
    addUnits(sums.convolutionBias, 0, gradient, parts.convolutionBias, parts.convolution);
    addUnits(sums.convolution, 0, gradient, parts.convolution, parts.vectors);
    for (let slot = 0; slot < words; slot++) {
      const vector = parts.vectors + slot * dim;
      addUnits(sums.embedding, met[slot]! * dim, gradient, vector, vector + dim);
    }
  }
}
