/** @file Training of the word-CNN without DP: Adam, dropout, early stopping on a part of the training data. */

import { seededStream, type KeyedStream } from '../../privacy/noise.ts';
import { initialWeights, type WordCnnShape, wordCnnViews } from './parameters.ts';
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

export interface TrainingReport {
  /** Where a step of training is: for progress and for yielding to the event loop. */
  epoch: number;
  recordsDone: number;
  recordsTotal: number;
}

/** Share of the training data that decides when to stop, and the most records that it takes. */
const validationShare = 0.1;
const validationLimit = 5_000;
/** Checks in an epoch, and checks without improvement after which training ends. */
const checksAnEpoch = 2;
const patience = 3;

/** Adam's constants (Kingma & Ba 2015, section 2). */
const beta1 = 0.9;
const beta2 = 0.999;
const stabiliser = 1e-8;

/**
 * Trains a classifier. Repeats bit for bit for the same data, settings and machine kind: initialisation, order and
 * dropout come from streams of the seed. The weights of the check with the highest validation accuracy are kept
 * (ties: the lower loss). The validation part is drawn from the training data; test data play no part.
 *
 * @param step called after each batch; may throw to stop.
 */
export async function trainWordCnn(
  shape: WordCnnShape,
  data: LabelledTexts,
  settings: TrainingSettings,
  step: (report: TrainingReport) => Promise<void>,
): Promise<{ model: WordCnn; validationAccuracy: number | null; epochs: number }> {
  const stream = (purpose: string): KeyedStream => seededStream(settings.seed, `word-cnn ${purpose}`);
  const model = new WordCnn(shape, initialWeights(shape, stream('initialisation')));
  const order = shuffled(data.labels.length, stream('validation'));
  const held = Math.min(validationLimit, Math.floor(data.labels.length * validationShare));
  const validation = order.subarray(0, held);
  const training = order.slice(held);
  const trainer = new AdamTrainer(model, settings.lr);
  const dropout = dropoutSource(settings.dropout, model.sizes.features, stream('dropout'));
  const shuffle = stream('order');

  let best = { accuracy: -1, loss: Infinity, flat: new Float32Array(0), epochs: 0 };
  let worse = 0;
  const total = settings.epochs * training.length;
  const batches = Math.ceil(training.length / settings.batch);
  const checkAfter = Math.max(1, Math.ceil(batches / checksAnEpoch));
  for (let epoch = 0; epoch < settings.epochs && worse < patience; epoch++) {
    shuffleInPlace(training, shuffle);
    for (let number = 0; number < batches && worse < patience; number++) {
      const batch = training.subarray(number * settings.batch, (number + 1) * settings.batch);
      trainer.step(data, batch, dropout);
      await step({ epoch, recordsDone: epoch * training.length + number * settings.batch, recordsTotal: total });
      if (held === 0 || ((number + 1) % checkAfter !== 0 && number + 1 !== batches)) continue;
      const check = await validate(model, data, validation, () =>
        step({ epoch, recordsDone: epoch * training.length + number * settings.batch, recordsTotal: total }),
      );
      if (check.accuracy > best.accuracy || (check.accuracy === best.accuracy && check.loss < best.loss)) {
        best = { ...check, flat: model.weights.flat.slice(), epochs: epoch + (number + 1) / batches };
        worse = 0;
      } else {
        worse += 1;
      }
    }
  }
  if (best.accuracy < 0) return { model, validationAccuracy: null, epochs: settings.epochs };
  model.weights = wordCnnViews(shape, best.flat);
  return { model, validationAccuracy: best.accuracy, epochs: best.epochs };
}

async function validate(
  model: WordCnn,
  data: LabelledTexts,
  validation: Int32Array,
  breathe: () => Promise<void>,
): Promise<{ accuracy: number; loss: number }> {
  let hits = 0;
  let loss = 0;
  let at = 0;
  for (const part of model.evaluate(data.texts, validation, data.labels)) {
    loss += part.loss;
    for (const predicted of part.predicted) hits += predicted === data.labels[validation[at++]!]! ? 1 : 0;
    await breathe();
  }
  return { accuracy: hits / validation.length, loss: loss / validation.length };
}

/** Fisher-Yates; leaves a permutation of what was there. */
function shuffleInPlace(values: Int32Array, stream: KeyedStream): void {
  for (let index = values.length - 1; index > 0; index--) {
    const other = Math.floor(stream.uniform() * (index + 1));
    const value = values[index]!;
    values[index] = values[other]!;
    values[other] = value;
  }
}

function shuffled(count: number, stream: KeyedStream): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  shuffleInPlace(order, stream);
  return order;
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
class AdamTrainer {
  private readonly model: WordCnn;
  private readonly lr: number;
  private readonly first: Float32Array;
  private readonly second: Float32Array;
  private steps = 0;

  constructor(model: WordCnn, lr: number) {
    this.model = model;
    this.lr = lr;
    this.first = new Float32Array(model.weights.flat.length);
    this.second = new Float32Array(model.weights.flat.length);
  }

  step(data: LabelledTexts, batch: Int32Array, dropout: (records: number) => Float32Array | null): void {
    const { model } = this;
    const table = model.table(data.texts, batch);
    const gradient = batchGradient(model, table, data, batch, dropout(batch.length));
    const { convolution, vectors } = model.wordGradients(table, gradient);
    this.steps += 1;
    const { embedding: width } = model.shape;
    if (vectors !== null) {
      for (let index = 0; index < table.numbers.length; index++) {
        this.update(table.numbers[index]! * width, vectors, index * width, width);
      }
    }
    let start = model.weights.embedding.length;
    for (const part of [convolution, gradient.convolutionBias, gradient.dense, gradient.denseBias]) {
      this.update(start, part, 0, part.length);
      start += part.length;
    }
  }

  private update(start: number, gradient: Float32Array, from: number, length: number): void {
    const { first, second } = this;
    const weights = this.model.weights.flat;
    const rate = (this.lr * Math.sqrt(1 - beta2 ** this.steps)) / (1 - beta1 ** this.steps);
    for (let index = 0; index < length; index++) {
      const g = gradient[from + index]!;
      const at = start + index;
      const m = (first[at] = beta1 * first[at]! + (1 - beta1) * g);
      const v = (second[at] = beta2 * second[at]! + (1 - beta2) * g * g);
      weights[at]! -= (rate * m) / (Math.sqrt(v) + stabiliser);
    }
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
