/** @file Connects step-wise training with the job around it: ledger, progress, checkpoints and cancellation. */

import type { LoopHooks } from '../learning/dp/outer-loop.ts';
import type { PlanDataset, TrainingMechanism } from '../schemas/plan.ts';
import type { JobContext } from './job.ts';

/** A checkpoint is written after so many steps, or so many milliseconds if that is sooner. */
const checkpointSteps = 10;
const checkpointInterval = 60_000;

export interface TrainingHooks extends LoopHooks {
  /** Between microbatches: cancellation stops there, after a last checkpoint of the last complete step. */
  between(done: { step: number; microbatch: number; of: number }): Promise<void>;
}

export interface TrainingHookSettings {
  steps: number;
  dataset: PlanDataset;
  mechanism: TrainingMechanism;
  checkpoint: () => Promise<void>;
}

export function trainingHooks(context: JobContext, settings: TrainingHookSettings): TrainingHooks {
  const { steps, dataset, mechanism, checkpoint } = settings;
  let lastCheckpoint = Date.now();
  return {
    beforeStep: async (step, digest, batchSize) => {
      if (mechanism.kind === 'unbounded') return;
      await context.announceStep(step, digest.toString('hex'), 'training', batchSize);
    },
    between: async ({ step, microbatch, of }) => {
      context.progress({ phase: 'train', done: step + microbatch / of, total: steps, unit: 'steps' });
      if (context.stopping) await checkpoint();
      await context.breathe();
    },
    afterStep: async (step, meanLoss) => {
      const done = step + 1;
      context.progress({ phase: 'train', done, total: steps, unit: 'steps' });
      // The loss of private records may not leave; that of a benchmark or public dataset may.
      if (meanLoss !== null && dataset.sensitivity !== 'private') context.metric('trainLoss', meanLoss, done);
      const due = done % checkpointSteps === 0 || Date.now() - lastCheckpoint > checkpointInterval;
      if (done < steps && (due || context.stopping)) {
        await checkpoint();
        lastCheckpoint = Date.now();
      }
      await context.breathe();
    },
  };
}
