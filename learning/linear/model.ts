/** @file Multinomial logistic regression on hashed texts: softmax of W x + b. */

import { setPrediction, type Predictions } from '../classifier/predictions.ts';
import type { LoopParameter } from '../dp/outer-loop.ts';
import type { TrainedValues } from '../tuning/parameters.ts';
import { featureOf, type HashedTexts } from './features.ts';

export interface LinearShape {
  buckets: number;
  classes: number;
}

export const linearLength = ({ buckets, classes }: LinearShape): number => (buckets + 1) * classes;

/** The trained weights by name, as the outer loop and checkpoints hold them. */
export const linearParameters = ({ buckets, classes }: LinearShape): LoopParameter[] => [
  { name: 'weights', shape: [buckets, classes], rateMultiple: 1, decays: false },
  { name: 'bias', shape: [classes], rateMultiple: 1, decays: false },
];

/** Weights, or sums over them, [buckets + 1, classes]; the last row is the bias. As views by name. */
export function linearViews<Numbers extends Float32Array | Float64Array>(
  { buckets, classes }: LinearShape,
  flat: Numbers,
): Record<string, Numbers> {
  const end = buckets * classes;
  return { weights: flat.subarray(0, end) as Numbers, bias: flat.subarray(end) as Numbers };
}

/** Texts between two reports. */
const part = 2_048;

export class LinearModel {
  readonly shape: LinearShape;
  /** [buckets + 1, classes]: starts at zero, where all classes are alike. */
  readonly flat: Float32Array;

  constructor(shape: LinearShape) {
    this.shape = shape;
    this.flat = new Float32Array(linearLength(shape));
  }

  /** Takes weights over, for instance a checkpoint's. */
  restore(values: TrainedValues): void {
    for (const [name, view] of Object.entries(linearViews(this.shape, this.flat))) view.set(values[name]!);
  }

  /** Probabilities of a text, [classes], into `out`. */
  forward(texts: HashedTexts, text: number, out: Float64Array): void {
    const { classes, buckets } = this.shape;
    const { flat } = this;
    out.fill(0);
    for (let at = texts.starts[text]!; at < texts.starts[text + 1]!; at++) {
      const from = texts.buckets[at]! * classes;
      for (let c = 0; c < classes; c++) out[c]! += flat[from + c]!;
    }
    const feature = featureOf(texts, text);
    let highest = -Infinity;
    for (let c = 0; c < classes; c++) {
      out[c] = out[c]! * feature + flat[buckets * classes + c]!;
      highest = Math.max(highest, out[c]!);
    }
    let total = 0;
    for (let c = 0; c < classes; c++) total += out[c] = Math.exp(out[c]! - highest);
    for (let c = 0; c < classes; c++) out[c]! /= total;
  }

  /** Writes what is said of each text, by itself, to `into`; yields how many are done. */
  *evaluate(texts: HashedTexts, chosen: ArrayLike<number>, into: Predictions): Generator<number> {
    const row = new Float64Array(this.shape.classes);
    for (let index = 0; index < chosen.length; index++) {
      this.forward(texts, chosen[index]!, row);
      setPrediction(into, index, row);
      if ((index + 1) % part === 0 || index + 1 === chosen.length) yield index + 1;
    }
  }
}
