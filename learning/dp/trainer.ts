/**
 * @file DP-SGD on an adapter: the outer loop over microbatches of fixed shape, clipping each example's gradient by group.
 *
 * The groups' clip norms are shares of the clip norm C whose squares sum to 1, so an example moves the whole sum by at
 * most C.
 */

import type { MechanismProof } from '../../schemas/artifact.ts';
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
import { rateMultiples, type Schedule } from './adam.ts';
import type { TrainingState } from './checkpoint.ts';
import {
  compileMicrobatchGradient,
  parameterSums,
  type GroupClipNorms,
  type MicrobatchGradient,
  type MicrobatchOutputs,
} from './gradients.ts';
import { trainInSteps, type BatchSums, type LoopHooks } from './outer-loop.ts';
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

export interface TrainerHooks extends LoopHooks {
  /** Called between microbatches; may throw to stop. The state is that of the last complete step. */
  between(done: { step: number; microbatch: number; of: number }): Promise<void>;
  /** Called when a microbatch of a new shape is met, before it is compiled. */
  compiling(shape: MicrobatchShape): Promise<void>;
}

const upload = (parameters: readonly Parameter[], state: TrainingState): Record<string, Tensor> =>
  Object.fromEntries(
    parameters.map(({ name, shape }) => [name, tf.tensor(state.values[name] as Float32Array, shape) as Tensor]),
  );

export class AdapterTrainer {
  readonly parameters: Parameter[];
  private readonly settings: TrainerSettings;
  private readonly weights: Record<string, Tensor>;
  private readonly records: readonly EncodedRecord[];
  private readonly clipNorm: number | null;
  private readonly clipNorms: GroupClipNorms;
  private readonly compiled = new Map<number, MicrobatchGradient>();

  /** @param weights of the frozen base model; the caller keeps and disposes them. */
  constructor(settings: TrainerSettings, weights: Record<string, Tensor>, records: readonly EncodedRecord[]) {
    this.settings = settings;
    this.weights = weights;
    this.records = records;
    this.parameters = adapterParameters(settings.config, settings.adapter);
    const { mechanism } = settings;
    this.clipNorm = mechanism.kind === 'unbounded' ? null : mechanism.clipNorm;
    this.clipNorms = groupClipNorms(this.clipNorm, settings.adapter);
  }

  /** Trains from `state`, which it changes, to the end of the schedule. Returns as `trainInSteps` does. */
  async train(state: TrainingState, hooks: TrainerHooks): Promise<MechanismProof | null> {
    const { schedule, mechanism, unboundedBatch, secret, layout, padId } = this.settings;
    const parameters = this.parameters.map((each) => ({ ...each, rateMultiple: rateMultiples[each.group] }));
    const sums = (drawn: Int32Array): Promise<BatchSums> =>
      this.gradientSums(state, microbatches(this.records, drawn, layout, padId), hooks);
    const records = this.records.length;
    return trainInSteps({ parameters, schedule, mechanism, unboundedBatch, secret, records }, state, sums, hooks);
  }

  /** Frees compiled programs. */
  dispose(): void {
    for (const step of this.compiled.values()) step.dispose();
    this.compiled.clear();
  }

  /** Sums of clipped gradients over a logical batch, in float64, and the sum of the examples' losses. */
  private async gradientSums(
    state: TrainingState,
    batches: readonly Microbatch[],
    hooks: TrainerHooks,
  ): Promise<BatchSums> {
    const sums = Object.fromEntries(
      this.parameters.map((parameter) => [parameter.name, new Float64Array(sizeOf(parameter))]),
    );
    let loss = 0;
    const adapter = upload(this.parameters, state);
    try {
      for (const [index, batch] of batches.entries()) {
        const gradient = await this.gradientFor(batch.shape, hooks);
        const outputs = this.run(gradient, batch, adapter);
        for (const { name, values } of parameterSums(this.parameters, outputs.sums)) {
          const sum = sums[name] as Float64Array;
          for (let place = 0; place < sum.length; place++) sum[place] = (sum[place] as number) + values(place);
        }
        for (const value of outputs.losses.dataSync()) loss += value;
        disposeTree(outputs);
        await hooks.between({ step: state.step, microbatch: index + 1, of: batches.length });
      }
    } finally {
      disposeTree(adapter);
    }
    return { sums, loss, clipNorm: this.clipNorm };
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
