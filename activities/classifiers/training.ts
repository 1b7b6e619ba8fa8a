/** @file What the families of classifiers get, and what they give. */

import type { TextRecord } from '../../datasets/index.ts';
import {
  privateMicrobatch,
  privateSchedule,
  type PrivateHooks,
  type PrivateSettings,
} from '../../learning/classifier/private-training.ts';
import type { Predictions } from '../../learning/classifier/predictions.ts';
import { readCheckpoint, writeCheckpoint, type TrainingState } from '../../learning/dp/checkpoint.ts';
import { zeroState } from '../../learning/dp/optimisers.ts';
import type { LoopParameter } from '../../learning/dp/outer-loop.ts';
import type { TrainedValues } from '../../learning/tuning/parameters.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PlanDataset, PoissonGaussianMechanism, TrainingMechanism } from '../../schemas/plan.ts';
import type { TrainClassifierParams } from '../../schemas/step-params.ts';
import { computation } from '../computation.ts';
import type { JobContext, JobInput } from '../job.ts';
import { noiseSecret } from '../reserved-mechanism.ts';
import { trainingHooks } from '../training-hooks.ts';

export interface ClassifierTraining<P extends TrainClassifierParams = TrainClassifierParams> {
  input: JobInput<'train-classifier'>;
  context: JobContext;
  params: P;
  /** Labels are indices into the classes of the test set. */
  records: readonly TextRecord[];
  classes: number;
  /** Null when the records are synthetic. */
  dataset: PlanDataset | null;
  mechanism: TrainingMechanism;
}

export interface TrainedClassifier {
  /** What DP training did; null without DP. */
  proof: MechanismProof | null;
  /**
   * Writes what is said of texts to `into`; yields how many are done.
   *
   * @param isApart each must be that of its own text alone, whatever other texts there are
   */
  evaluate(texts: readonly string[], into: Predictions, isApart: boolean): Iterable<number>;
  dispose(): void;
}

export const labelsOf = (records: readonly TextRecord[]): Int32Array => Int32Array.from(records, ({ label }) => label);

/** With DP: the dataset that is trained on, and its mechanism. */
export function noised({
  dataset,
  mechanism,
}: ClassifierTraining): { dataset: PlanDataset; mechanism: PoissonGaussianMechanism } | null {
  return dataset === null || mechanism.kind === 'unbounded' ? null : { dataset, mechanism };
}

/** Reports of passes over the training data. */
export const epochReports =
  ({ context }: ClassifierTraining) =>
  async ({ recordsDone, recordsTotal }: { recordsDone: number; recordsTotal: number }): Promise<void> => {
    context.progress({ phase: 'train', done: recordsDone, total: recordsTotal, unit: 'records' });
    await context.breathe();
  };

export interface PrivateStart {
  state: TrainingState;
  settings: PrivateSettings;
  hooks: PrivateHooks;
}

/**
 * What DP training of a classifier from scratch goes on from: its last checkpoint, or the beginning.
 *
 * @param values the views of a model's weights, which hold what is stored where there is a checkpoint
 */
export async function privateStart(
  { input, context, params }: ClassifierTraining<TrainClassifierParams & { words: number; dp: { lr: number } }>,
  { dataset, mechanism }: { dataset: PlanDataset; mechanism: PoissonGaussianMechanism },
  parameters: readonly LoopParameter[],
  values: (stored: TrainedValues | null) => TrainedValues,
): Promise<PrivateStart> {
  const { node, checkpointDirectory: directory } = input;
  const { steps } = mechanism;
  const identity = {
    nodeKey: node.key,
    mechanismDigest: node.privacy?.digest ?? null,
    base: null,
    layout: [{ rows: privateMicrobatch, time: params.words }],
  };
  const resumed = await readCheckpoint(directory, { parameters, steps }, identity);
  const views = values(resumed?.values ?? null);
  const state = { ...(resumed ?? { step: 0, ...zeroState(views) }), values: views };
  const checkpoint = (): Promise<void> =>
    writeCheckpoint(directory, parameters, state, identity, () => context.checkFence());
  const secret = await noiseSecret(input);
  return {
    state,
    settings: { schedule: privateSchedule(params.dp), mechanism, secret, machine: computation() },
    hooks: trainingHooks(context, { steps, dataset, mechanism, checkpoint, interval: params.checkpoint }),
  };
}
