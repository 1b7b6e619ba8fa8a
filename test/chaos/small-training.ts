/** @file DP training of a model of a few numbers, through the project's own loop, noise and checkpoints. */

import { usualAdam, zeroState } from '../../learning/dp/optimisers.ts';
import { readCheckpoint, writeCheckpoint, type TrainingState } from '../../learning/dp/checkpoint.ts';
import { gridFor } from '../../learning/dp/grid.ts';
import { trainInSteps, type BatchSums, type LoopHooks, type LoopParameter } from '../../learning/dp/outer-loop.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { records } from './made-up-plan.ts';

const parameters: LoopParameter[] = [
  { name: 'weights', shape: [6], rateMultiple: 1, decays: false },
  { name: 'bias', shape: [2], rateMultiple: 2, decays: false },
];

const checkpointEvery = 2;

export interface SmallTraining {
  nodeKey: string;
  mechanismDigest: string;
  mechanism: PoissonGaussianMechanism;
  key: Buffer;
  checkpointDirectory: string;
  /** Goes on from another state than the one that was saved, as another processor or a damaged file would make it. */
  fromAnotherState: boolean;
  beforeStep: LoopHooks['beforeStep'];
  checkFence(): Promise<void>;
}

/** A contribution to the sum, in units of the grid: depends on record and state, and is within the clip norm. */
function contribution(record: number, values: Float32Array, coordinate: number, units: number): number {
  const wanted = Math.sin(record * 7.3 + coordinate) - (values[coordinate % values.length] as number);
  return Math.trunc(Math.max(-1, Math.min(1, wanted)) * (units / 4));
}

export async function trainSmall(task: SmallTraining): Promise<{ proof: MechanismProof; values: number[] }> {
  const { nodeKey, mechanismDigest, mechanism, key, checkpointDirectory } = task;
  const identity = { nodeKey, mechanismDigest, base: null, layout: [] };
  const initial = { weights: new Float32Array(6), bias: new Float32Array(2) };
  const saved = await readCheckpoint(checkpointDirectory, { parameters, steps: mechanism.steps }, identity);
  const state: TrainingState = saved ?? { step: 0, values: initial, ...zeroState(initial) };
  if (task.fromAnotherState) state.values['weights']![0]! += 2 ** -10;
  const grid = gridFor(mechanism.clipNorm);
  const sums = (drawn: Int32Array): Promise<BatchSums> => {
    const totals: Record<string, Float64Array> = {};
    for (const { name, shape } of parameters) {
      const values = state.values[name] as Float32Array;
      totals[name] = Float64Array.from({ length: shape[0]! }, (_, at) =>
        drawn.reduce((sum, record) => sum + contribution(record, values, at, grid.clipNorm), 0),
      );
    }
    return Promise.resolve({ sums: totals, loss: 0, largestNorm: mechanism.clipNorm, step: grid.step });
  };
  const proof = await trainInSteps(
    {
      parameters,
      optimizer: usualAdam,
      schedule: { lr: 0.05, warmup: 1, decay: 'constant', finalLr: 1, steps: mechanism.steps },
      mechanism,
      unboundedBatch: { samplingProbability: 0, expectedBatchSize: 1, seed: 0 },
      secret: { key, nodeKey },
      records,
      computation: 'chaos',
    },
    state,
    sums,
    {
      beforeStep: task.beforeStep,
      afterStep: async (step) => {
        if ((step + 1) % checkpointEvery !== 0) return;
        await writeCheckpoint(checkpointDirectory, parameters, state, identity, () => task.checkFence());
      },
    },
  );
  return { proof: proof!, values: parameters.flatMap(({ name }) => [...(state.values[name] as Float32Array)]) };
}
