/** @file Training of the linear classifier: with Adam and early stopping, or with DP-SGD. */

import type { MechanismProof } from '../../schemas/artifact.ts';
import { streamsOf, trainInEpochs, type EpochReport } from '../classifier/epochs.ts';
import {
  addInMicrobatches,
  trainLearnerPrivately,
  type PrivateHooks,
  type PrivateSettings,
} from '../classifier/private-training.ts';
import { SparseAdam } from '../classifier/sparse-adam.ts';
import type { TrainingState } from '../dp/checkpoint.ts';
import { gridFor, type Grid } from '../dp/grid.ts';
import { usualAdam } from '../dp/optimisers.ts';
import { addUnits, clipToUnits } from '../dp/units.ts';
import { featureOf, type HashedTexts } from './features.ts';
import { LinearModel, linearLength, linearParameters, linearViews, type LinearShape } from './model.ts';

export interface HashedData {
  texts: HashedTexts;
  /** [texts] class indices. */
  labels: Int32Array;
}

/** Probabilities to the gradient of cross-entropy by the logits, in place; returns the loss, nats. */
function lossGradient(outputs: Float64Array, label: number): number {
  const probability = outputs[label]!;
  outputs[label] = probability - 1;
  return -Math.log(Math.max(probability, 1e-38));
}

/**
 * Trains without DP. Repeats bit for bit for the same data and settings.
 *
 * @param step called after each batch; may throw to stop.
 */
export async function trainLinear(
  shape: LinearShape,
  data: HashedData,
  { lr, batch, epochs, seed }: { lr: number; batch: number; epochs: number; seed: number },
  step: (report: EpochReport) => Promise<void>,
): Promise<LinearModel> {
  const model = new LinearModel(shape);
  const batches = new BatchGradient(model, data);
  const optimiser = new SparseAdam(model.flat, lr);
  const { classes } = shape;
  await trainInEpochs(
    {
      classes,
      labels: data.labels,
      weights: model.flat,
      update(chosen) {
        const { rows, gradient } = batches.of(chosen);
        optimiser.begin();
        rows.forEach((row, place) => optimiser.update(row * classes, gradient, place * classes, classes));
      },
      evaluate: (records, into) => model.evaluate(data.texts, records, into),
    },
    { batch, epochs, stream: streamsOf(seed, 'linear') },
    step,
  );
  return model;
}

/** Gradients of the mean loss over batches, by the rows of the weights that a batch meets. */
class BatchGradient {
  private readonly model: LinearModel;
  private readonly data: HashedData;
  /** [buckets + 1] place of a row among those of the batch; -1 elsewhere. */
  private readonly slots: Int32Array;
  private readonly outputs: Float64Array;

  constructor(model: LinearModel, data: HashedData) {
    this.model = model;
    this.data = data;
    this.slots = new Int32Array(model.shape.buckets + 1).fill(-1);
    this.outputs = new Float64Array(model.shape.classes);
  }

  /** @returns rows, and [rows, classes] */
  of(batch: Int32Array): { rows: number[]; gradient: number[] } {
    const { model, data, slots, outputs } = this;
    const { classes, buckets } = model.shape;
    const rows: number[] = [];
    const gradient: number[] = [];
    const add = (row: number, feature: number): void => {
      let slot = slots[row]!;
      if (slot < 0) {
        slot = slots[row] = rows.push(row) - 1;
        for (let c = 0; c < classes; c++) gradient.push(0);
      }
      for (let c = 0; c < classes; c++) gradient[slot * classes + c]! += (feature * outputs[c]!) / batch.length;
    };
    for (const text of batch) {
      model.forward(data.texts, text, outputs);
      lossGradient(outputs, data.labels[text]!);
      const feature = featureOf(data.texts, text);
      for (let at = data.texts.starts[text]!; at < data.texts.starts[text + 1]!; at++) {
        add(data.texts.buckets[at]!, feature);
      }
      add(buckets, 1);
    }
    for (const row of rows) slots[row] = -1;
    return { rows, gradient };
  }
}

/**
 * Adds clipped gradients of single texts to sums over [buckets + 1, classes], in whole steps of the grid. A text's
 * gradient is (p - y) times its features and 1 for the bias: what is not zero of it is written down, and clipped.
 */
export class LinearClipper {
  readonly sums: Float64Array;
  private readonly model: LinearModel;
  private readonly data: HashedData;
  private readonly grid: Grid;
  private readonly outputs: Float64Array;
  private readonly gradient: Float64Array;

  constructor(model: LinearModel, data: HashedData, clipNorm: number) {
    const { starts } = data.texts;
    const { classes } = model.shape;
    let most = 0;
    for (let text = 0; text + 1 < starts.length; text++) most = Math.max(most, starts[text + 1]! - starts[text]!);
    this.model = model;
    this.data = data;
    this.grid = gridFor(clipNorm);
    this.sums = new Float64Array(linearLength(model.shape));
    this.outputs = new Float64Array(classes);
    this.gradient = new Float64Array((most + 1) * classes);
  }

  /** Adds a text; returns its loss, nats. A text whose gradient is not finite adds zero, and has loss 0. */
  add(text: number): number {
    const { outputs, gradient, sums, grid } = this;
    const { texts, labels } = this.data;
    const { classes, buckets } = this.model.shape;
    this.model.forward(texts, text, outputs);
    const loss = lossGradient(outputs, labels[text]!);
    const [from, to] = [texts.starts[text]!, texts.starts[text + 1]!];
    const feature = featureOf(texts, text);
    for (let at = 0; at <= to - from; at++) {
      const value = at === to - from ? 1 : feature;
      for (let c = 0; c < classes; c++) gradient[at * classes + c] = value * outputs[c]!;
    }
    const length = (to - from + 1) * classes;
    if (!Number.isFinite(loss) || !clipToUnits(gradient, length, grid)) return 0;
    for (let at = 0; at <= to - from; at++) {
      const row = at === to - from ? buckets : texts.buckets[from + at]!;
      addUnits(sums, row * classes, gradient, at * classes, (at + 1) * classes);
    }
    return loss;
  }
}

/** Trains with DP from `state`, whose values must be the views of the model's weights, to the end of the schedule. */
export function trainLinearPrivately(
  model: LinearModel,
  data: HashedData,
  settings: PrivateSettings,
  state: TrainingState,
  hooks: PrivateHooks,
): Promise<MechanismProof> {
  const learner = {
    parameters: linearParameters(model.shape),
    optimizer: usualAdam,
    records: data.labels.length,
    async gradientSums(drawn: Int32Array, between: (microbatch: number) => Promise<void>) {
      const clipper = new LinearClipper(model, data, settings.mechanism.clipNorm);
      const loss = await addInMicrobatches(drawn, (text) => clipper.add(text), between);
      return { sums: linearViews(model.shape, clipper.sums), loss };
    },
  };
  return trainLearnerPrivately(learner, settings, state, hooks);
}
