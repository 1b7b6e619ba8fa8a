/** @file Training of the word-CNN without DP: Adam, dropout, early stopping on a part of the training data. */

import { streamsOf, trainInEpochs, type EpochReport, type Learner } from '../classifier/epochs.ts';
import { SparseAdam } from '../classifier/sparse-adam.ts';
import type { KeyedStream } from '../../privacy/noise.ts';
import { initialWeights, type WordCnnShape } from './parameters.ts';
import { type BatchGradient, WordCnn, type WordTable } from './network.ts';
import type { EncodedTexts } from './words.ts';

export interface LabelledTexts {
  texts: EncodedTexts;
  /** [texts] class indices. */
  labels: Int32Array;
}

export interface TrainingSettings {
  lr: number;
  batch: number;
  /** Passes over the training part, at most. */
  epochs: number;
  dropout: number;
  seed: number;
}

/**
 * Trains a classifier. Repeats bit for bit for the same data, settings and machine kind: initialisation, order and
 * dropout come from streams of the seed.
 *
 * @param step called after each batch; may throw to stop.
 */
export async function trainWordCnn(
  shape: WordCnnShape,
  data: LabelledTexts,
  { lr, dropout, seed, batch, epochs }: TrainingSettings,
  step: (report: EpochReport) => Promise<void>,
): Promise<WordCnn> {
  const stream = streamsOf(seed, 'word-cnn');
  const model = new WordCnn(shape, initialWeights(shape, stream('initialisation')));
  const optimiser = new SparseAdam(model.weights.flat, lr);
  const factors = dropoutSource(dropout, model.sizes.features, stream('dropout'));
  const learner: Learner = {
    classes: shape.classes,
    labels: data.labels,
    weights: model.weights.flat,
    update: (chosen) => update(model, optimiser, data, chosen, factors(chosen.length)),
    evaluate: (records, into) => model.evaluate(data.texts, records, into),
  };
  await trainInEpochs(learner, { batch, epochs, stream }, step);
  return model;
}

/** Gives factors for the pooled features of a batch: 0 with probability `rate`, else 1 / (1 - rate). */
function dropoutSource(rate: number, features: number, stream: KeyedStream): (records: number) => Float32Array | null {
  if (rate === 0) return () => null;
  const threshold = Math.round(rate * 65_536);
  const kept = 65_536 / (65_536 - threshold);
  return (records) => {
    const random = stream.bytes(2 * records * features);
    const factors = new Float32Array(records * features);
    for (let index = 0; index < factors.length; index++) {
      const value = random[2 * index]! | (random[2 * index + 1]! << 8);
      factors[index] = value < threshold ? 0 : kept;
    }
    return factors;
  };
}

/** Mean gradient over a batch, then Adam; a word vector and its moments move only in batches that hold the word. */
function update(
  model: WordCnn,
  optimiser: SparseAdam,
  data: LabelledTexts,
  batch: Int32Array,
  dropout: Float32Array | null,
): void {
  const table = model.table(data.texts, batch);
  const gradient = batchGradient(model, table, data, batch, dropout);
  const { convolution, vectors } = model.wordGradients(table, gradient);
  optimiser.begin();
  const { embedding: width } = model.shape;
  if (vectors !== null) {
    for (let index = 0; index < table.numbers.length; index++) {
      optimiser.update(table.numbers[index]! * width, vectors, index * width, width);
    }
  }
  let start = model.weights.embedding.length;
  for (const part of [convolution, gradient.convolutionBias, gradient.dense, gradient.denseBias]) {
    optimiser.update(start, part, 0, part.length);
    start += part.length;
  }
}

/** Gradient of the mean loss over a batch. */
function batchGradient(
  model: WordCnn,
  table: WordTable,
  data: LabelledTexts,
  batch: Int32Array,
  dropout: Float32Array | null,
): BatchGradient {
  const gradient = model.newGradient(table);
  const pass = model.newPass();
  const responses = new Float32Array(model.sizes.features);
  for (let index = 0; index < batch.length; index++) {
    const dropoutFrom = index * model.sizes.features;
    model.forward(table, index, pass, dropout, dropoutFrom);
    model.lossGradient(pass, data.labels[batch[index]!]!);
    model.responseGradient(pass, responses, dropout, dropoutFrom);
    model.accumulate(table, index, pass, responses, 1 / batch.length, gradient);
  }
  return gradient;
}
