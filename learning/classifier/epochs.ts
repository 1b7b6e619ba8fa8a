/** @file Training of a classifier without DP: passes over the data in batches, with early stopping. */

import { seededStream, type KeyedStream } from '../../privacy/noise.ts';
import { BestState, checkEvery, shuffle, splitOff } from './early-stopping.ts';
import { predictions, scoreOf, type Predictions } from './predictions.ts';

/** What is trained, with the data that it learns from. */
export interface Learner {
  classes: number;
  /** [records] class indices. */
  labels: Int32Array;
  /** Changes the weights by the gradient of some records. */
  update(batch: Int32Array): void;
  /** Writes what is said of some records to `into`; yields how many are done. */
  evaluate(records: Int32Array, into: Predictions): Iterable<number>;
  /** All weights, changed in place. */
  weights: Float32Array;
}

export interface EpochSettings {
  batch: number;
  /** Passes over the training part, at most. */
  epochs: number;
  /** Of the purposes `validation` and `order`. */
  stream: (purpose: string) => KeyedStream;
}

export interface EpochReport {
  /** Where a step of training is: for progress and for yielding to the event loop. */
  recordsDone: number;
  recordsTotal: number;
}

/** Streams of a seed for one family of classifiers. */
export const streamsOf =
  (seed: number, family: string): ((purpose: string) => KeyedStream) =>
  (purpose) =>
    seededStream(seed, `${family} ${purpose}`);

/**
 * Trains to the best check. Repeats bit for bit for the same data, settings and machine kind.
 *
 * @param step called after each batch and between parts of a check; may throw to stop.
 */
export async function trainInEpochs(
  learner: Learner,
  { batch: size, epochs, stream }: EpochSettings,
  step: (report: EpochReport) => Promise<void>,
): Promise<void> {
  const { training, validation } = splitOff(learner.labels.length, stream('validation'));
  const order = stream('order');
  const batches = Math.ceil(training.length / size);
  const between = checkEvery(batches);
  const best = new BestState<Float32Array>();
  for (let epoch = 0; epoch < epochs && !best.isOver; epoch++) {
    shuffle(training, order);
    for (let number = 0; number < batches && !best.isOver; number++) {
      learner.update(training.subarray(number * size, (number + 1) * size));
      const recordsDone = epoch * training.length + number * size;
      const report = (): Promise<void> => step({ recordsDone, recordsTotal: epochs * training.length });
      await report();
      if (validation.length === 0 || ((number + 1) % between !== 0 && number + 1 !== batches)) continue;
      best.observe(await checked(learner, validation, report), () => learner.weights.slice());
    }
  }
  if (best.state !== null) learner.weights.set(best.state);
}

/** Accuracy and loss on the records that decide. */
async function checked(
  learner: Learner,
  validation: Int32Array,
  breathe: () => Promise<void>,
): Promise<{ accuracy: number; loss: number }> {
  const size = { records: validation.length, classes: learner.classes };
  const whole = await predictions((into) => learner.evaluate(validation, into), size, breathe);
  const labels = Int32Array.from(validation, (record) => learner.labels[record]!);
  return scoreOf(whole, labels);
}
