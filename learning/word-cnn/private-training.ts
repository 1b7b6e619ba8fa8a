/**
 * @file DP-SGD of the word-CNN: exact per-example clipping over all trained weights, in integers on a grid, and the outer
 * loop of `learning/dp`.
 *
 * What a text contributes is computed from the text and the weights alone: products of words and filters are made for the
 * whole vocabulary, and each text goes through loops of its own.
 */

import { availableParallelism } from 'node:os';

import { type TrainedValues } from '../tuning/parameters.ts';
import { usualAdam } from '../dp/optimisers.ts';
import type { Schedule } from '../schedule.ts';
import type { TrainingState } from '../dp/checkpoint.ts';
import { gridFor } from '../dp/grid.ts';
import { trainInSteps, type BatchSums, type LoopHooks, type LoopParameter } from '../dp/outer-loop.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { ClippingThreads } from './clipping-threads.ts';
import type { WordCnn } from './network.ts';
import {
  type WordCnnShape,
  wordCnnSizes,
  type WordCnnViews,
  wordCnnLength,
  wordCnnViews,
  type WordCnnWeights,
  zeroWeights,
} from './parameters.ts';
import { largestUnits, TextClipper } from './text-clipper.ts';
import type { LabelledTexts } from './training.ts';

/** Records between two reports of progress. */
export const privateMicrobatch = 256;

/**
 * Texts of a whole training from which on threads share the work. A thread starts in the time of some 2,000 texts, and
 * two of them have won that back after twice as many.
 */
const textsWorthThreads = 10_000;
/** Texts of a batch that a thread is worth: adding its sums to the others' takes the time of a few. */
const textsAThread = 64;

/**
 * Norm of a word's vector at the start of private training. A random start of norm 1 is noise of its own that some 60
 * clipped steps cannot undo: on `speeches` at epsilon 8 the accuracy is 0.80 with it and 0.84 with a small one.
 */
export const privateVectorNorm = 0.05;

/** The trained weights by name, as the outer loop and checkpoints hold them. */
export function trainedParameters(shape: WordCnnShape): LoopParameter[] {
  const { features, rows } = wordCnnSizes(shape);
  return [
    { name: 'embedding', shape: [shape.buckets, shape.embedding], rateMultiple: 1, decays: false },
    { name: 'convolution', shape: [rows, shape.embedding], rateMultiple: 1, decays: false },
    { name: 'convolutionBias', shape: [features], rateMultiple: 1, decays: false },
    { name: 'dense', shape: [features, shape.classes], rateMultiple: 1, decays: false },
    { name: 'denseBias', shape: [shape.classes], rateMultiple: 1, decays: false },
  ];
}

/** Views by name: as those of weights, the state of training and the network share them. */
export const namedWeights = <Numbers extends Float32Array | Float64Array>({
  flat: _,
  ...named
}: WordCnnViews<Numbers>): Record<string, Numbers> => named;

/** Weights as one vector from a state of training, for instance a checkpoint's. */
export function weightsOf(shape: WordCnnShape, values: TrainedValues): WordCnnWeights {
  const weights = zeroWeights(shape);
  for (const [name, view] of Object.entries(namedWeights(weights))) view.set(values[name] as Float32Array);
  return weights;
}

/** Rates over the steps: a short rise, then linear to a tenth, so that late noise moves the weights less. */
export const privateSchedule = ({ lr, steps }: { lr: number; steps: number }): Schedule => ({
  lr,
  steps,
  warmup: 5,
  decay: 'linear',
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
  const threads = threadsFor(model, data, mechanism, schedule.steps - state.step);
  const gradientSums = async (drawn: Int32Array): Promise<BatchSums> => {
    const of = Math.ceil(drawn.length / privateMicrobatch);
    const between = (microbatch: number): Promise<void> => hooks.between({ step: state.step, microbatch, of });
    const { views, sums } = zeroSums(model.shape, mechanism.clipNorm);
    if (of === 0) return sums;
    if (threads) return { ...sums, loss: await threads.add(drawn, views.flat, privateMicrobatch, between) };
    const clipped = new ClippedGradients(model, data, mechanism.clipNorm);
    for (let microbatch = 0; microbatch < of; microbatch++) {
      clipped.add(drawn.subarray(microbatch * privateMicrobatch, (microbatch + 1) * privateMicrobatch));
      await between(microbatch + 1);
    }
    return clipped.sums;
  };
  // An unbounded mechanism is never run here, so how its batches are drawn plays no part.
  const unboundedBatch = { samplingProbability: 0, expectedBatchSize: 1, seed: 0 };
  const records = data.labels.length;
  const computation = JSON.stringify({ machine, rows: privateMicrobatch });
  try {
    const proof = await trainInSteps(
      { parameters, optimizer: usualAdam, schedule, mechanism, unboundedBatch, secret, records, computation },
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
  } finally {
    await threads?.end();
  }
}

/** Threads for the steps that are left, by numbers of the plan alone; null when they would not be worth their start. */
function threadsFor(
  model: WordCnn,
  data: LabelledTexts,
  { expectedBatchSize, clipNorm }: PoissonGaussianMechanism,
  steps: number,
): ClippingThreads | null {
  if (steps * expectedBatchSize < textsWorthThreads) return null;
  const threads = Math.max(1, Math.min(availableParallelism(), Math.floor(expectedBatchSize / textsAThread)));
  return new ClippingThreads(model, data, { clipNorm, threads });
}

/** Sums over no text. */
function zeroSums(shape: WordCnnShape, clipNorm: number): { views: WordCnnViews<Float64Array>; sums: BatchSums } {
  const views = wordCnnViews(shape, new Float64Array(wordCnnLength(shape)));
  const grid = gridFor(clipNorm);
  const clipping = { largestNorm: largestUnits(grid) * grid.step, step: grid.step };
  return { views, sums: { sums: namedWeights(views), loss: 0, ...clipping } };
}

/** Sums of clipped per-example gradients at one state of the weights, in whole steps of the grid. */
export class ClippedGradients {
  readonly sums: BatchSums;
  private readonly clipper: TextClipper;

  constructor(model: WordCnn, data: LabelledTexts, clipNorm: number) {
    const { words: places, starts } = data.texts;
    const table = { places, starts, products: model.vocabularyProducts() };
    const { views, sums } = zeroSums(model.shape, clipNorm);
    this.clipper = new TextClipper(model, table, data.labels, clipNorm, views);
    this.sums = sums;
  }

  /** Adds the clipped gradients of some records. */
  add(chosen: Int32Array): void {
    for (const text of chosen) this.sums.loss += this.clipper.add(text);
  }
}
