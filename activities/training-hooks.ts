/** @file Connects step-wise training with the job around it: ledger, progress, checkpoints and cancellation. */

import type { LoopHooks } from '../learning/dp/outer-loop.ts';
import type { PlanDataset, TrainingMechanism } from '../schemas/plan.ts';
import type { CheckpointInterval } from '../schemas/step-params.ts';
import { CheckpointClock } from './checkpoint-clock.ts';
import type { JobContext } from './job.ts';

export interface TrainingHooks extends LoopHooks {
  /** Between microbatches: cancellation stops there, after a last checkpoint of the last complete step. */
  between(done: { step: number; microbatch: number; of: number }): Promise<void>;
}

export interface TrainingHookSettings {
  steps: number;
  dataset: PlanDataset;
  mechanism: TrainingMechanism;
  checkpoint: () => Promise<void>;
  interval: CheckpointInterval;
}

export function trainingHooks(context: JobContext, settings: TrainingHookSettings): TrainingHooks {
  const { steps, dataset, mechanism, checkpoint, interval } = settings;
  const clock = new CheckpointClock(interval);
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
      if (done < steps && (clock.isDue(done) || context.stopping)) {
        await checkpoint();
        clock.restart();
      }
      await context.breathe();
    },
  };
}
