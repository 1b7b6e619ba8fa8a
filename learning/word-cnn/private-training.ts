/** @file DP-SGD of the word-CNN: exact per-example clipping over all trained weights, outer loop of `learning/dp`. */

import { type AdapterValues } from '../adapter/parameters.ts';
import type { Schedule } from '../dp/adam.ts';
import type { TrainingState } from '../dp/checkpoint.ts';
import { trainInSteps, type BatchSums, type LoopHooks, type LoopParameter } from '../dp/outer-loop.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import type { WordCnn } from './network.ts';
import { type BatchGradient, type TextPass, type WordTable } from './network.ts';
import { type WordCnnShape, wordCnnSizes, wordCnnWeights, type WordCnnWeights } from './parameters.ts';
import type { LabelledTexts } from './training.ts';
import { paddingWord } from './words.ts';

/** Records whose word table is made at once: bounds memory, and is part of what a checkpoint must agree with. */
export const privateMicrobatch = 256;

/**
 * Norm of a word's vector at the start of private training. A random start of norm 1 is noise of its own that some 60
 * clipped steps cannot undo: on `speeches` at epsilon 8 the accuracy is 0.80 with it and 0.84 with a small one.
 */
export const privateVectorNorm = 0.05;

/** Share by which a clipped norm stays below its bound, for rounding in the norm and in the float32 sums. */
export const clipMargin = 1e-5;

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
export const namedWeights = (weights: WordCnnWeights): AdapterValues => ({
  embedding: weights.embedding,
  convolution: weights.convolution,
  convolutionBias: weights.convolutionBias,
  dense: weights.dense,
  denseBias: weights.denseBias,
});

/** Weights as one vector from a state of training, for instance a checkpoint's. */
export function weightsOf(shape: WordCnnShape, values: AdapterValues): WordCnnWeights {
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
  const { schedule, mechanism, secret } = settings;
  const clipper = new ClippedGradients(model, mechanism.clipNorm);
  const gradientSums = async (drawn: Int32Array): Promise<BatchSums> => {
    const total = clipper.newSums();
    const of = Math.ceil(drawn.length / privateMicrobatch);
    for (let microbatch = 0; microbatch < of; microbatch++) {
      const chosen = drawn.subarray(microbatch * privateMicrobatch, (microbatch + 1) * privateMicrobatch);
      clipper.add(data, chosen, total);
      await hooks.between({ step: state.step, microbatch: microbatch + 1, of });
    }
    return total;
  };
  // An unbounded mechanism is never run here, so how its batches are drawn plays no part.
  const unboundedBatch = { samplingProbability: 0, expectedBatchSize: 1, seed: 0 };
  const records = data.labels.length;
  const proof = await trainInSteps(
    { parameters, schedule, mechanism, unboundedBatch, secret, records },
    state,
    gradientSums,
    {
      beforeStep: (step, digest) => hooks.beforeStep(step, digest),
      afterStep: async (step, meanLoss) => {
        // Noise falls on the padding word's row too; its vector is defined as zero, which is post-processing.
        model.weights.embedding.fill(0, 0, model.shape.embedding);
        await hooks.afterStep(step, meanLoss);
      },
    },
  );
  return proof!;
}

function squaredLength(values: Float32Array, start: number, count: number): number {
  let total = 0;
  for (let at = start; at < start + count; at++) total += values[at]! * values[at]!;
  return total;
}

/** Sums of clipped per-example gradients. */
export class ClippedGradients {
  private readonly model: WordCnn;
  private readonly clipNorm: number;
  private readonly pass: TextPass;
  private readonly responses: Float32Array;
  /** Place in `hit` of a table row, -1 when the text at hand has not met it. */
  private slots = new Int32Array(0);
  private vectors = new Float64Array(0);

  constructor(model: WordCnn, clipNorm: number) {
    this.model = model;
    this.clipNorm = clipNorm;
    this.pass = model.newPass();
    this.responses = new Float32Array(model.sizes.features);
  }

  newSums(): BatchSums {
    const sums: Record<string, Float64Array> = {};
    for (const [name, view] of Object.entries(namedWeights(this.model.weights))) {
      sums[name] = new Float64Array(view.length);
    }
    return { sums, loss: 0, clipNorm: this.clipNorm };
  }

  /** Adds the clipped gradients of some records to `total`. */
  add(data: LabelledTexts, chosen: Int32Array, total: BatchSums): void {
    const { model, pass, responses } = this;
    const table = model.table(data.texts, chosen);
    const gradient = model.newGradient(table);
    for (let index = 0; index < chosen.length; index++) {
      model.forward(table, index, pass, null);
      const loss = model.lossGradient(pass, data.labels[chosen[index]!]!);
      model.responseGradient(pass, responses, null);
      const norm = Math.sqrt(this.squaredNorm(table, index));
      // A non-finite gradient contributes zero, whatever its neighbours are.
      if (!Number.isFinite(norm) || !Number.isFinite(loss)) continue;
      total.loss += loss;
      const bound = this.clipNorm * (1 - clipMargin);
      model.accumulate(table, index, pass, responses, norm > bound ? bound / norm : 1, gradient);
    }
    this.spread(table, gradient, total);
  }

  /**
   * Squared norm of one text's gradient over all weights.
   *
   * Dense layer: outer product of pooled features and logit gradient. A filter's gradient is its response gradient
   * times the vectors of its window. A word's vector collects from every filter and every place where the word stands,
   * so contributions of one word are added before the norm is taken.
   */
  private squaredNorm(table: WordTable, index: number): number {
    const { shape, weights } = this.model;
    const { filters, widths, embedding: dim } = shape;
    const { pooled, windows, outputs } = this.pass;
    const { responses } = this;
    let logits = 0;
    for (let c = 0; c < outputs.length; c++) logits += outputs[c]! * outputs[c]!;
    let features = 0;
    let biases = 0;
    for (let f = 0; f < pooled.length; f++) {
      features += pooled[f]! * pooled[f]!;
      biases += responses[f]! * responses[f]!;
    }
    let total = logits * (1 + features) + biases;

    const first = table.starts[index]!;
    const slots = this.slotsFor(table.numbers.length);
    const vectors = this.vectorsFor((table.starts[index + 1]! - first) * dim);
    const squares: number[] = [];
    const met: number[] = [];
    let row = 0;
    for (let k = 0; k < widths.length; k++) {
      const width = widths[k]!;
      for (let f = 0; f < filters; f++) {
        const slope = responses[k * filters + f]!;
        if (slope === 0) continue;
        const start = first + windows[k * filters + f]!;
        let window = 0;
        for (let offset = 0; offset < width; offset++) {
          const place = table.places[start + offset]!;
          const number = table.numbers[place]!;
          if (number === paddingWord) continue;
          let slot = slots[place]!;
          if (slot < 0) {
            slot = slots[place] = met.length;
            met.push(place);
            vectors.fill(0, slot * dim, (slot + 1) * dim);
            squares[slot] = squaredLength(weights.embedding, number * dim, dim);
          }
          window += squares[slot]!;
          const into = slot * dim;
          const weight = (row + offset * filters + f) * dim;
          for (let d = 0; d < dim; d++) vectors[into + d]! += slope * weights.convolution[weight + d]!;
        }
        total += slope * slope * window;
      }
      row += width * filters;
    }
    for (let at = 0; at < met.length * dim; at++) total += vectors[at]! * vectors[at]!;
    for (const place of met) slots[place] = -1;
    return total;
  }

  /** Turns a microbatch's gradient by the table into gradients by the weights and adds them. */
  private spread(table: WordTable, gradient: BatchGradient, { sums }: BatchSums): void {
    const { convolution, vectors } = this.model.wordGradients(table, gradient, { embedding: true });
    const dim = this.model.shape.embedding;
    if (vectors !== null) {
      const into = sums['embedding']!;
      for (let place = 0; place < table.numbers.length; place++) {
        const start = table.numbers[place]! * dim;
        for (let d = 0; d < dim; d++) into[start + d]! += vectors[place * dim + d]!;
      }
    }
    const { convolutionBias, dense, denseBias } = gradient;
    for (const [name, part] of Object.entries({ convolution, convolutionBias, dense, denseBias })) {
      const into = sums[name]!;
      for (let at = 0; at < part.length; at++) into[at]! += part[at]!;
    }
  }

  private slotsFor(count: number): Int32Array {
    if (this.slots.length < count) this.slots = new Int32Array(count).fill(-1);
    return this.slots;
  }

  private vectorsFor(count: number): Float64Array {
    if (this.vectors.length < count) this.vectors = new Float64Array(count);
    return this.vectors;
  }
}
