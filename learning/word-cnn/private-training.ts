/**
 * @file DP-SGD of the word-CNN: exact per-example clipping over all trained weights, in integers on a grid, and the outer
 * loop of `learning/dp`.
 *
 * What a text contributes is computed from the text and the weights alone: products of words and filters are made for the
 * whole vocabulary, and each text goes through loops of its own.
 */

import { type TrainedValues } from '../tuning/parameters.ts';
import type { Schedule } from '../dp/adam.ts';
import type { TrainingState } from '../dp/checkpoint.ts';
import { gridFor, type Grid } from '../dp/grid.ts';
import { trainInSteps, type BatchSums, type LoopHooks, type LoopParameter } from '../dp/outer-loop.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import type { WordCnn } from './network.ts';
import { type TextPass, type WordTable } from './network.ts';
import { type WordCnnShape, wordCnnSizes, wordCnnWeights, type WordCnnWeights } from './parameters.ts';
import type { LabelledTexts } from './training.ts';
import { paddingWord } from './words.ts';

/** Records between two reports of progress. */
export const privateMicrobatch = 256;

/**
 * Norm of a word's vector at the start of private training. A random start of norm 1 is noise of its own that some 60
 * clipped steps cannot undo: on `speeches` at epsilon 8 the accuracy is 0.80 with it and 0.84 with a small one.
 */
export const privateVectorNorm = 0.05;

/** Share by which a clipped norm stays below its bound: a thousand times the rounding of a norm in double precision. */
const clipMargin = 1e-9;

/** The trained weights by name, as the outer loop and checkpoints hold them. */
export function trainedParameters(shape: WordCnnShape): LoopParameter[] {
  const { features, rows } = wordCnnSizes(shape);
  return [
    { name: 'embedding', shape: [shape.buckets, shape.embedding], rateMultiple: 1 },
    { name: 'convolution', shape: [rows, shape.embedding], rateMultiple: 1 },
    { name: 'convolutionBias', shape: [features], rateMultiple: 1 },
    { name: 'dense', shape: [features, shape.classes], rateMultiple: 1 },
    { name: 'denseBias', shape: [shape.classes], rateMultiple: 1 },
  ];
}

/** The views of `weights` by name: the state of training and the network share them. */
export const namedWeights = (weights: WordCnnWeights): TrainedValues => ({
  embedding: weights.embedding,
  convolution: weights.convolution,
  convolutionBias: weights.convolutionBias,
  dense: weights.dense,
  denseBias: weights.denseBias,
});

/** Weights as one vector from a state of training, for instance a checkpoint's. */
export function weightsOf(shape: WordCnnShape, values: TrainedValues): WordCnnWeights {
  const weights = wordCnnWeights(shape);
  for (const [name, view] of Object.entries(namedWeights(weights))) view.set(values[name] as Float32Array);
  return weights;
}

/** Rates over the steps: a short rise, then linear to a tenth, so that late noise moves the weights less. */
export const privateSchedule = ({ lr, steps }: { lr: number; steps: number }): Schedule => ({
  lr,
  steps,
  warmup: 5,
  finalLr: 0.1,
});

export interface PrivateHooks extends LoopHooks {
  /** Called between microbatches; may throw to stop. The state is that of the last complete step. */
  between(done: { step: number; microbatch: number; of: number }): Promise<void>;
}

export interface PrivateSettings {
  schedule: Schedule;
  mechanism: PoissonGaussianMechanism;
  secret: { key: Buffer; nodeKey: string };
  /** What decides the last bits of sums beside the program: see `machine` of `learning/machine.ts`. */
  machine: string;
}

/**
 * Trains `model` from `state`, whose values must be the views of the model's weights (see {@link namedWeights}), to the
 * end of the schedule. There is no early stopping, no dropout and no look at any number of the data.
 */
export async function trainPrivately(
  model: WordCnn,
  data: LabelledTexts,
  settings: PrivateSettings,
  state: TrainingState,
  hooks: PrivateHooks,
): Promise<MechanismProof> {
  const parameters = trainedParameters(model.shape);
  const { schedule, mechanism, secret, machine } = settings;
  const gradientSums = async (drawn: Int32Array): Promise<BatchSums> => {
    const clipped = new ClippedGradients(model, data, mechanism.clipNorm);
    const of = Math.ceil(drawn.length / privateMicrobatch);
    for (let microbatch = 0; microbatch < of; microbatch++) {
      const chosen = drawn.subarray(microbatch * privateMicrobatch, (microbatch + 1) * privateMicrobatch);
      clipped.add(chosen);
      await hooks.between({ step: state.step, microbatch: microbatch + 1, of });
    }
    return clipped.sums;
  };
  // An unbounded mechanism is never run here, so how its batches are drawn plays no part.
  const unboundedBatch = { samplingProbability: 0, expectedBatchSize: 1, seed: 0 };
  const records = data.labels.length;
  const computation = JSON.stringify({ machine, rows: privateMicrobatch });
  const proof = await trainInSteps(
    { parameters, schedule, mechanism, unboundedBatch, secret, records, computation },
    state,
    gradientSums,
    {
      beforeStep: (step, digest, batchSize) => hooks.beforeStep(step, digest, batchSize),
      afterStep: async (step, meanLoss) => {
        // Noise falls on the padding word's row too; its vector is defined as zero, which is post-processing.
        model.weights.embedding.fill(0, 0, model.shape.embedding);
        await hooks.afterStep(step, meanLoss);
      },
    },
  );
  return proof!;
}

/** A piece of one text's gradient, and where it belongs. */
interface Piece {
  values: Float64Array;
  into: Float64Array;
  /** Place of the first value in `into`. */
  place: number;
}

/** Sums of clipped per-example gradients at one state of the weights, in whole steps of the grid. */
export class ClippedGradients {
  readonly sums: BatchSums;
  private readonly model: WordCnn;
  private readonly data: LabelledTexts;
  private readonly grid: Grid;
  private readonly table: WordTable;
  private readonly pass: TextPass;
  private readonly responses: Float32Array;
  private readonly dense: Float64Array;
  private readonly convolution: Float64Array;
  /** One for each distinct word of the text at hand, reused. */
  private readonly vectors: Float64Array[] = [];
  /** [buckets] place of a word of the text at hand in `vectors`, -1 elsewhere. */
  private readonly slots: Int32Array;

  constructor(model: WordCnn, data: LabelledTexts, clipNorm: number) {
    const { features, rows } = model.sizes;
    const { buckets, classes, embedding } = model.shape;
    this.model = model;
    this.data = data;
    this.grid = gridFor(clipNorm);
    this.table = model.vocabularyTable(data.texts);
    this.pass = model.newPass();
    this.responses = new Float32Array(features);
    this.dense = new Float64Array(features * classes);
    this.convolution = new Float64Array(rows * embedding);
    this.slots = new Int32Array(buckets).fill(-1);
    const views = Object.entries(namedWeights(model.weights));
    const sums = Object.fromEntries(views.map(([name, view]) => [name, new Float64Array(view.length)]));
    this.sums = { sums, loss: 0, clipNorm, step: this.grid.step };
  }

  /** Adds the clipped gradients of some records. */
  add(chosen: Int32Array): void {
    const { model, pass, responses, table, grid } = this;
    const bound = Math.floor(grid.clipNorm);
    for (const text of chosen) {
      model.forward(table, text, pass, null);
      const loss = model.lossGradient(pass, this.data.labels[text]!);
      model.responseGradient(pass, responses, null);
      const pieces = this.gradientOf(text);
      const norm = Math.sqrt(squaredNorm(pieces));
      // A non-finite gradient contributes zero, whatever its neighbours are.
      if (!Number.isFinite(norm) || !Number.isFinite(loss)) continue;
      const squared = truncate(pieces, Math.min(1 / grid.step, (bound * (1 - clipMargin)) / norm));
      // Integers: exact up to 2^53, and what is larger than that is larger than the bound.
      if (!(squared <= bound * bound)) continue;
      for (const { values, into, place } of pieces) {
        for (let at = 0; at < values.length; at++) into[place + at]! += values[at]!;
      }
      this.sums.loss += loss;
    }
  }

  /**
   * Gradient of one text over all weights.
   *
   * Dense layer: outer product of pooled features and logit gradient. A filter's gradient is its response gradient
   * times the vectors of its window. A word's vector collects from every filter and every place where the word stands.
   */
  private gradientOf(text: number): Piece[] {
    const { shape, weights } = this.model;
    const { filters, widths, classes, embedding: dim } = shape;
    const { pooled, windows, outputs } = this.pass;
    const { responses, dense, convolution, slots, table } = this;
    const { sums } = this.sums;
    for (let f = 0; f < pooled.length; f++) {
      for (let c = 0; c < classes; c++) dense[f * classes + c] = pooled[f]! * outputs[c]!;
    }
    convolution.fill(0);
    const met: number[] = [];
    const first = table.starts[text]!;
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
          if (slots[word]! < 0) {
            slots[word] = met.length;
            (this.vectors[met.length] ??= new Float64Array(dim)).fill(0);
            met.push(word);
          }
          const vector = this.vectors[slots[word]!]!;
          const weight = (row + offset * filters + f) * dim;
          for (let d = 0; d < dim; d++) {
            convolution[weight + d] = slope * weights.embedding[word * dim + d]!;
            vector[d]! += slope * weights.convolution[weight + d]!;
          }
        }
      }
      row += width * filters;
    }
    const whole = (name: string, values: Float64Array): Piece => ({ values, into: sums[name]!, place: 0 });
    const pieces = [
      whole('denseBias', outputs),
      whole('dense', dense),
      whole('convolutionBias', Float64Array.from(responses)),
      whole('convolution', convolution),
    ];
    for (const word of met) {
      const values = this.vectors[slots[word]!]!;
      pieces.push({ values, into: sums['embedding']!, place: word * dim });
      slots[word] = -1;
    }
    return pieces;
  }
}

function squaredNorm(pieces: readonly Piece[]): number {
  let total = 0;
  for (const { values } of pieces) for (let at = 0; at < values.length; at++) total += values[at]! * values[at]!;
  return total;
}

/** Scales to steps of the grid and drops what is behind the point; returns the squared norm of what is left. */
function truncate(pieces: readonly Piece[], factor: number): number {
  let total = 0;
  for (const { values } of pieces) {
    for (let at = 0; at < values.length; at++) {
      const units = Math.trunc(values[at]! * factor);
      values[at] = units;
      total += units * units;
    }
  }
  return total;
}
