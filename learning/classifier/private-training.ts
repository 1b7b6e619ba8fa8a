/**
 * @file DP-SGD of a classifier that clips each record's gradient over all its weights in integers on a grid, with the
 * outer loop of `learning/dp`.
 */

import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import type { Optimizer } from '../../schemas/step-params.ts';
import type { TrainingState } from '../dp/checkpoint.ts';
import { gridFor } from '../dp/grid.ts';
import { trainInSteps, type LoopHooks, type LoopParameter } from '../dp/outer-loop.ts';
import { largestUnits } from '../dp/units.ts';
import type { Schedule } from '../schedule.ts';

/** Records between two reports of progress. */
export const privateMicrobatch = 256;

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

/** Sums over a batch, in whole steps of the grid, by parameter; and of the losses, nats. */
export interface UnitSums {
  sums: Record<string, Float64Array>;
  loss: number;
}

/** What is trained, with the records that it learns from. */
export interface PrivateLearner {
  parameters: readonly LoopParameter[];
  optimizer: Optimizer;
  /** Number of records. */
  records: number;
  /** @param between called after each microbatch with its number, from 1; may throw */
  gradientSums(drawn: Int32Array, between: (microbatch: number) => Promise<void>): Promise<UnitSums>;
  /** Post-processing of the noised weights. */
  tidy?: () => void;
}

/**
 * Trains from `state`, whose values must be the views of the model's weights, to the end of the schedule. There is no
 * early stopping, no dropout and no look at any number of the data.
 */
export async function trainLearnerPrivately(
  learner: PrivateLearner,
  { schedule, mechanism, secret, machine }: PrivateSettings,
  state: TrainingState,
  hooks: PrivateHooks,
): Promise<MechanismProof> {
  const { parameters, optimizer, records } = learner;
  const grid = gridFor(mechanism.clipNorm);
  const clipping = { largestNorm: largestUnits(grid) * grid.step, step: grid.step };
  // An unbounded mechanism is never run here, so how its batches are drawn plays no part.
  const unboundedBatch = { samplingProbability: 0, expectedBatchSize: 1, seed: 0 };
  const computation = JSON.stringify({ machine, rows: privateMicrobatch });
  const proof = await trainInSteps(
    { parameters, optimizer, schedule, mechanism, unboundedBatch, secret, records, computation },
    state,
    async (drawn) => {
      const of = Math.ceil(drawn.length / privateMicrobatch);
      const between = (microbatch: number): Promise<void> => hooks.between({ step: state.step, microbatch, of });
      return { ...(await learner.gradientSums(drawn, between)), ...clipping };
    },
    {
      beforeStep: (step, digest, batchSize) => hooks.beforeStep(step, digest, batchSize),
      afterStep: async (step, meanLoss) => {
        learner.tidy?.();
        await hooks.afterStep(step, meanLoss);
      },
    },
  );
  return proof!;
}

/** Adds up records in microbatches. @param add adds a record's clipped gradient, and returns its loss, nats */
export async function addInMicrobatches(
  drawn: Int32Array,
  add: (record: number) => number,
  between: (microbatch: number) => Promise<void>,
): Promise<number> {
  let loss = 0;
  for (let from = 0; from < drawn.length; from += privateMicrobatch) {
    for (const record of drawn.subarray(from, from + privateMicrobatch)) loss += add(record);
    await between(from / privateMicrobatch + 1);
  }
  return loss;
}
