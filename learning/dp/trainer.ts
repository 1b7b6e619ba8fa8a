/**
 * @file DP-SGD with Adam on an adapter (Abadi et al. 2016): Poisson-sampled logical batches, clipping of each example's
 * gradient by group, one Gaussian draw a logical batch, division by the expected batch size.
 *
 * The groups' clip norms are shares of the clip norm C whose squares sum to 1, so an example moves the whole sum by at
 * most C: one Gaussian with standard deviation sigma * C on every coordinate is the mechanism that is accounted for.
 */

import { createHash } from 'node:crypto';
import { poissonBatch } from '../../privacy/poisson.ts';
import { seededStream, stepStreams, type KeyedStream } from '../../privacy/noise.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import {
  adapterParameters,
  sizeOf,
  type AdapterShape,
  type Parameter,
  type ParameterGroup,
} from '../adapter/parameters.ts';
import { disposeTree } from '../compile/index.ts';
import type { DecoderConfig } from '../decoder/config.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { adamUpdate, learningRate, rateMultiples, type Schedule } from './adam.ts';
import type { TrainingState } from './checkpoint.ts';
import {
  compileMicrobatchGradient,
  type GroupClipNorms,
  type MicrobatchGradient,
  type MicrobatchOutputs,
} from './gradients.ts';
import { microbatches, type EncodedRecord, type Microbatch, type MicrobatchShape } from './sequences.ts';

/** Shares of the clip norm with class conditioning; without it LoRA has all of it. */
const biasShare = 0.6;
const vectorShare = 0.4;
const loraShare = Math.sqrt(1 - biasShare ** 2 - vectorShare ** 2);

/** Clip norm of each group for a joint clip norm; null without clipping. */
export function groupClipNorms(clipNorm: number | null, adapter: AdapterShape): GroupClipNorms {
  if (clipNorm === null) return null;
  if (adapter.classes === 0) return { lora: clipNorm, vectors: 0, bias: 0 };
  return { lora: clipNorm * loraShare, vectors: clipNorm * vectorShare, bias: clipNorm * biasShare };
}

export interface TrainerSettings {
  config: DecoderConfig;
  adapter: AdapterShape;
  schedule: Schedule;
  mechanism: Mechanism;
  /** Without DP: how batches are drawn. */
  unboundedBatch: { samplingProbability: number; expectedBatchSize: number; seed: number };
  /** With DP: secret of the noise and sampling. */
  secret: { key: Buffer; nodeKey: string } | null;
  layout: readonly MicrobatchShape[];
  padId: number;
}

export interface TrainerHooks {
  /** Called before the batch and noise of step `step` (from 0) are used. */
  beforeStep(step: number): Promise<void>;
  /** Called between microbatches; may throw to stop. The state is that of the last complete step. */
  between(done: { step: number; microbatch: number; of: number }): Promise<void>;
  /** Called after each step. `meanLoss` is private information: nats a token, null for an empty batch. */
  afterStep(step: number, meanLoss: number | null): Promise<void>;
  /** Called when a microbatch of a new shape is met, before it is compiled. */
  compiling(shape: MicrobatchShape): Promise<void>;
}

/** sha256 over a state's numbers: with the key and the step it decides batch and noise. */
export function stateDigest(parameters: readonly Parameter[], state: TrainingState): Buffer {
  const hash = createHash('sha256').update(`step ${state.step}\n`);
  for (const part of ['values', 'first', 'second'] as const) {
    for (const { name } of parameters) {
      const values = state[part][name] as Float32Array;
      hash.update(`${part} ${name} ${values.length}\n`);
      hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  }
  return hash.digest();
}

const upload = (parameters: readonly Parameter[], state: TrainingState): Record<string, Tensor> =>
  Object.fromEntries(
    parameters.map(({ name, shape }) => [name, tf.tensor(state.values[name] as Float32Array, shape) as Tensor]),
  );

interface StepDraws {
  drawn: Int32Array;
  /** Adds the step's noise to a sum. */
  addNoise(sum: Float64Array): void;
  expectedBatchSize: number;
}

export class AdapterTrainer {
  readonly parameters: Parameter[];
  private readonly settings: TrainerSettings;
  private readonly weights: Record<string, Tensor>;
  private readonly records: readonly EncodedRecord[];
  private readonly clipNorms: GroupClipNorms;
  private readonly compiled = new Map<number, MicrobatchGradient>();

  /** @param weights of the frozen base model; the caller keeps and disposes them. */
  constructor(settings: TrainerSettings, weights: Record<string, Tensor>, records: readonly EncodedRecord[]) {
    this.settings = settings;
    this.weights = weights;
    this.records = records;
    this.parameters = adapterParameters(settings.config, settings.adapter);
    const { mechanism } = settings;
    this.clipNorms = groupClipNorms(mechanism.kind === 'unbounded' ? null : mechanism.clipNorm, settings.adapter);
  }

  /** Trains from `state`, which it changes, to the end of the schedule. */
  async train(state: TrainingState, hooks: TrainerHooks): Promise<void> {
    while (state.step < this.settings.schedule.steps) {
      const { step } = state;
      await hooks.beforeStep(step);
      const { drawn, addNoise, expectedBatchSize } = this.draws(state);
      const batches = microbatches(this.records, drawn, this.settings.layout, this.settings.padId);
      const { sums, loss } = await this.gradientSums(state, batches, hooks);
      const rate = learningRate(this.settings.schedule, step);
      for (const { name, group } of this.parameters) {
        const gradient = sums[name] as Float64Array;
        addNoise(gradient);
        for (let index = 0; index < gradient.length; index++) {
          gradient[index] = (gradient[index] as number) / expectedBatchSize;
        }
        const parameter = {
          values: state.values[name] as Float32Array,
          first: state.first[name] as Float32Array,
          second: state.second[name] as Float32Array,
        };
        adamUpdate(parameter, gradient, step, rate * rateMultiples[group]);
      }
      state.step = step + 1;
      await hooks.afterStep(step, drawn.length > 0 ? loss / drawn.length : null);
    }
  }

  /** Frees compiled programs. */
  dispose(): void {
    for (const step of this.compiled.values()) step.dispose();
    this.compiled.clear();
  }

  private draws(state: TrainingState): StepDraws {
    const { mechanism, secret, unboundedBatch } = this.settings;
    if (mechanism.kind === 'unbounded') {
      const { samplingProbability, expectedBatchSize, seed } = unboundedBatch;
      const stream = seededStream(seed, `finetune batch ${state.step}`);
      return { drawn: this.sample(stream, samplingProbability), addNoise: () => undefined, expectedBatchSize };
    }
    if (!secret) throw new TypeError('a DP mechanism needs a noise key');
    const streams = stepStreams(secret.key, secret.nodeKey, state.step, stateDigest(this.parameters, state));
    const deviation = mechanism.noiseMultiplier * mechanism.clipNorm;
    return {
      drawn: this.sample(streams.batch, mechanism.samplingProbability),
      addNoise: (sum) => {
        const noise = new Float32Array(sum.length);
        streams.noise.fillGaussian(noise, deviation);
        for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) + (noise[index] as number);
      },
      expectedBatchSize: mechanism.expectedBatchSize,
    };
  }

  private sample(stream: KeyedStream, samplingProbability: number): Int32Array {
    return poissonBatch(stream, this.records.length, samplingProbability);
  }

  /** Sums of clipped gradients over a logical batch, in float64, and the sum of the examples' losses. */
  private async gradientSums(
    state: TrainingState,
    batches: readonly Microbatch[],
    hooks: TrainerHooks,
  ): Promise<{ sums: Record<string, Float64Array>; loss: number }> {
    const sums = Object.fromEntries(
      this.parameters.map((parameter) => [parameter.name, new Float64Array(sizeOf(parameter))]),
    );
    let loss = 0;
    const adapter = upload(this.parameters, state);
    try {
      for (const [index, batch] of batches.entries()) {
        const gradient = await this.gradientFor(batch.shape, hooks);
        const outputs = this.run(gradient, batch, adapter);
        for (const { name } of this.parameters) {
          const sum = sums[name] as Float64Array;
          const values = (outputs.sums[name] as Tensor).dataSync();
          for (let place = 0; place < sum.length; place++) {
            sum[place] = (sum[place] as number) + (values[place] as number);
          }
        }
        for (const value of outputs.losses.dataSync()) loss += value;
        disposeTree(outputs);
        await hooks.between({ step: state.step, microbatch: index + 1, of: batches.length });
      }
    } finally {
      disposeTree(adapter);
    }
    return { sums, loss };
  }

  private async gradientFor(shape: MicrobatchShape, hooks: TrainerHooks): Promise<MicrobatchGradient> {
    let gradient = this.compiled.get(shape.time);
    if (!gradient) {
      await hooks.compiling(shape);
      const { config, adapter } = this.settings;
      gradient = compileMicrobatchGradient(config, adapter, this.clipNorms, shape);
      this.compiled.set(shape.time, gradient);
    }
    return gradient;
  }

  private run(gradient: MicrobatchGradient, batch: Microbatch, adapter: Record<string, Tensor>): MicrobatchOutputs {
    const { rows, time } = batch.shape;
    const data = {
      tokens: tf.tensor2d(batch.tokens, [rows, time + 1], 'int32') as Tensor,
      lossWeights: tf.tensor2d(batch.lossWeights, [rows, time]) as Tensor,
      labels: tf.tensor1d(batch.labels, 'int32') as Tensor,
      present: tf.tensor1d(batch.present) as Tensor,
    };
    try {
      return gradient({ weights: this.weights, adapter, ...data });
    } finally {
      disposeTree(data);
    }
  }
}

/** Groups of which no value changed between two states. */
export function unmovedGroups(
  parameters: readonly Parameter[],
  before: Record<string, Float32Array>,
  after: Record<string, Float32Array>,
): ParameterGroup[] {
  const moved = new Set<ParameterGroup>();
  for (const { name, group } of parameters) {
    const old = before[name] as Float32Array;
    if ((after[name] as Float32Array).some((value, index) => value !== old[index])) moved.add(group);
  }
  return [...new Set(parameters.map(({ group }) => group))].filter((group) => !moved.has(group));
}
