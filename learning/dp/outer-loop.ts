/**
 * @file The outer loop of DP-SGD (Abadi et al. 2016) with any optimiser, for any model that can sum clipped gradients:
 * Poisson-sampled logical batches, one Gaussian draw a logical batch, division by the expected batch size.
 *
 * An example moves the sum by at most the clip norm C, so one Gaussian with standard deviation sigma * C on every
 * coordinate is the mechanism that is accounted for. In exact arithmetic sums and noise are integers on a grid: their sum
 * is the Gaussian mechanism's output rounded to the grid, and all that follows is post-processing of it.
 *
 * Batch and noise of a step are derived from its digest, which covers all that its sums depend on. A step that is
 * repeated with another sum therefore has noise of its own, and is recorded, and charged, as another application.
 */

import { createHash } from 'node:crypto';
import { poissonBatch } from '../../privacy/poisson.ts';
import { addFloatGaussian } from '../../privacy/float-gaussian.ts';
import { roundedGaussian } from '../../privacy/exact-gaussian.ts';
import { seededStream, stepStreams, type StepStreams } from '../../privacy/noise.ts';
import { logSpending, sumsDigest } from '../../privacy/spending-log.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { failpoint } from '../../schemas/failpoints.ts';
import type { PoissonGaussianMechanism, TrainingMechanism } from '../../schemas/plan.ts';
import type { Optimizer } from '../../schemas/step-params.ts';
import { sizeOf } from '../tuning/parameters.ts';
import { learningRate, type Schedule } from '../schedule.ts';
import type { NamedParameter, TrainingState } from './checkpoint.ts';
import { checkRange, deviationOnGrid, gridFor } from './grid.ts';
import { update } from './optimisers.ts';

export interface LoopParameter extends NamedParameter {
  /** Learning rate of this parameter over that of the schedule. */
  rateMultiple: number;
  /** Whether weight decay pulls at it. */
  decays: boolean;
}

export interface LoopSettings {
  parameters: readonly LoopParameter[];
  optimizer: Optimizer;
  schedule: Schedule;
  mechanism: TrainingMechanism;
  /** Without DP: how batches are drawn. */
  unboundedBatch: { samplingProbability: number; expectedBatchSize: number; seed: number };
  /** With DP: secret of the noise and sampling. */
  secret: { key: Buffer; nodeKey: string } | null;
  /** Number of records that batches are drawn from. */
  records: number;
  /**
   * What sums depend on beside state, batch and node, in their last bits: how batches are cut into microbatches, rows of
   * the programs, and the machine.
   */
  computation: string;
}

export interface LoopHooks {
  /**
   * Called before the batch and noise of step `step` (from 0) are used, with the step's digest (see
   * `stepDigest`). The number of records that were drawn, `batchSize`, is private information.
   */
  beforeStep(step: number, digest: Buffer, batchSize: number): Promise<void>;
  /** Called after each step. `meanLoss` is private information: nats, null for an empty batch. */
  afterStep(step: number, meanLoss: number | null): Promise<void>;
}

/** Sums over a logical batch: gradients by parameter and losses. */
export interface BatchSums {
  sums: Record<string, Float64Array>;
  loss: number;
  /** Largest norm that an example's clipped gradient can have, from the bounds in use; null without clipping. */
  largestNorm: number | null;
  /** In exact arithmetic: sums are integers, in units of this. Null: they are plain numbers. */
  step: number | null;
}

/**
 * sha256 over the incoming state's numbers and over how sums are computed from it: with key and node it decides batch
 * and noise. Equal digests have equal sums.
 */
export function stepDigest(
  { parameters, computation }: Pick<LoopSettings, 'computation'> & { parameters: readonly NamedParameter[] },
  state: TrainingState,
): Buffer {
  const hash = createHash('sha256').update(`${JSON.stringify({ step: state.step, computation })}\n`);
  for (const part of ['values', 'first', 'second'] as const) {
    for (const { name } of parameters) {
      const values = state[part][name] as Float32Array;
      hash.update(`${part} ${name} ${values.length}\n`);
      hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  }
  return hash.digest();
}

/**
 * Trains from `state`, which it changes, to the end of the schedule.
 *
 * @param gradientSums computes the sums of the drawn records at the present state; may throw to stop, which leaves the
 *   state that of the last complete step.
 * @returns with DP, what sampler, clipping and noise used; null without.
 * @throws EpsilonflowError MECHANISM_MISMATCH when gradients were clipped otherwise than the mechanism says
 */
export async function trainInSteps(
  settings: LoopSettings,
  state: TrainingState,
  gradientSums: (drawn: Int32Array) => Promise<BatchSums>,
  hooks: LoopHooks,
): Promise<MechanismProof | null> {
  const { mechanism } = settings;
  while (state.step < settings.schedule.steps) {
    const { step } = state;
    const digest = stepDigest(settings, state);
    failpoint('step: reached');
    const { drawn, drawNoise, expectedBatchSize } = stepDraws(settings, step, digest);
    await hooks.beforeStep(step, digest, drawn.length);
    failpoint('step: announced');
    const summing = gradientSums(drawn);
    const addNoise = drawNoise();
    const { loss, ...batch } = await summing;
    if (mechanism.kind !== 'unbounded') checkSums(mechanism, batch);
    const { sums } = batch;
    const logged = sumsDigest(sums);
    const divisor = expectedBatchSize / (batch.step ?? 1);
    const rate = learningRate(settings.schedule, step);
    for (const { name, rateMultiple, decays } of settings.parameters) {
      const gradient = sums[name] as Float64Array;
      addNoise(gradient);
      divide(gradient, divisor);
      const parameter = {
        values: state.values[name] as Float32Array,
        first: state.first[name] as Float32Array,
        second: state.second[name] as Float32Array,
      };
      update(settings.optimizer, parameter, gradient, { step, rate: rate * rateMultiple, decays });
    }
    state.step = step + 1;
    failpoint('step: updated');
    if (settings.secret && mechanism.kind !== 'unbounded') {
      logSpending(settings.secret, { step, digest, sums: logged, mechanism });
    }
    failpoint('step: done');
    await hooks.afterStep(step, drawn.length > 0 ? loss / drawn.length : null);
  }
  if (mechanism.kind === 'unbounded') return null;
  // The values that stepDraws handed to sampler, noise and averaging, and the number of steps behind the state.
  const { kind: _, ...used } = mechanism;
  return { sampler: 'poisson', ...used, steps: state.step };
}

function divide(values: Float64Array, divisor: number): void {
  for (let index = 0; index < values.length; index++) values[index] = (values[index] as number) / divisor;
}

/** Whether sums were made as the mechanism says. @throws EpsilonflowError MECHANISM_MISMATCH */
function checkSums({ clipNorm, arithmetic }: PoissonGaussianMechanism, batch: Omit<BatchSums, 'loss'>): void {
  if (batch.largestNorm === null || !(batch.largestNorm <= clipNorm)) {
    const bound = `norm ${batch.largestNorm}, and ${clipNorm} was reserved`;
    throw new EpsilonflowError('MECHANISM_MISMATCH', `A clipped gradient may have ${bound}.`);
  }
  if (batch.step !== (arithmetic === 'exact' ? gridFor(clipNorm).step : null)) {
    throw new EpsilonflowError('MECHANISM_MISMATCH', `Gradients are not in ${arithmetic} arithmetic, as was reserved.`);
  }
}

/** Adds the step's noise to a sum; called for the parameters in their order. */
type AddNoise = (sum: Float64Array) => void;

interface StepDraws {
  drawn: Int32Array;
  /** Called while other threads may be busy with the sums. */
  drawNoise(): AddNoise;
  expectedBatchSize: number;
}

function stepDraws(settings: LoopSettings, step: number, digest: Buffer): StepDraws {
  const { mechanism, secret, unboundedBatch, records } = settings;
  if (mechanism.kind === 'unbounded') {
    const { samplingProbability, expectedBatchSize, seed } = unboundedBatch;
    const stream = seededStream(seed, `finetune batch ${step}`);
    return {
      drawn: poissonBatch(stream, records, samplingProbability),
      drawNoise: () => () => undefined,
      expectedBatchSize,
    };
  }
  if (!secret) throw new TypeError('a DP mechanism needs a noise key');
  const streams = stepStreams(secret.key, secret.nodeKey, step, digest);
  return {
    drawn: poissonBatch(streams.batch, records, mechanism.samplingProbability),
    drawNoise:
      mechanism.arithmetic === 'exact'
        ? exactNoise(settings.parameters, mechanism, streams)
        : () => floatNoise(mechanism, streams),
    expectedBatchSize: mechanism.expectedBatchSize,
  };
}

/** Noise in units of the grid, all of it drawn before the first is added. */
function exactNoise(
  parameters: readonly NamedParameter[],
  { noiseMultiplier, clipNorm }: PoissonGaussianMechanism,
  { noise }: StepStreams,
): () => AddNoise {
  const next = roundedGaussian(noise, deviationOnGrid(noiseMultiplier, gridFor(clipNorm)));
  const length = parameters.reduce((sum, parameter) => sum + sizeOf(parameter), 0);
  return () => {
    const values = new Float64Array(length);
    for (let index = 0; index < length; index++) values[index] = next();
    let from = 0;
    return (sum) => {
      checkRange(sum);
      for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) + (values[from++] as number);
    };
  };
}

/** Noise drawn as it is added: there may be as much of it as a model has weights. */
function floatNoise({ noiseMultiplier, clipNorm }: PoissonGaussianMechanism, { noise }: StepStreams): AddNoise {
  return (sum: Float64Array): void => {
    addFloatGaussian(sum, noise, noiseMultiplier * clipNorm);
  };
}
