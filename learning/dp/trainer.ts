/**
 * @file DP-SGD on an adapter: the outer loop over microbatches of fixed shape, clipping each example's gradient by group.
 *
 * The groups' clip norms are shares of the clip norm C whose squares sum to 1, so an example moves the whole sum by at
 * most C. In exact arithmetic sums are integers: int32 in a microbatch, which cannot overflow, then in doubles.
 */

import type { MechanismProof } from '../../schemas/artifact.ts';
import type { TrainingMechanism } from '../../schemas/plan.ts';
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
  microbatchTensors,
  parameterSums,
  type Clipping,
  type MicrobatchGradient,
  type MicrobatchOutputs,
} from './gradients.ts';
import { gridFor, groupBounds, mostRows } from './grid.ts';
import { trainInSteps, type BatchSums, type LoopHooks } from './outer-loop.ts';
import { rowsAreIndependent } from './row-independence.ts';
import { microbatches, singleRows, type EncodedRecord, type Microbatch, type MicrobatchShape } from './sequences.ts';

/** Shares of the clip norm with class conditioning; without it LoRA has all of it. */
const biasShare = 0.6;
const vectorShare = 0.4;
const loraShare = Math.sqrt(1 - biasShare ** 2 - vectorShare ** 2);

/** How each group is clipped under a mechanism. */
export function clippingFor(mechanism: TrainingMechanism, { classes }: Pick<AdapterShape, 'classes'>): Clipping {
  if (mechanism.kind === 'unbounded') return null;
  const { clipNorm, arithmetic } = mechanism;
  const shares =
    classes === 0 ? { lora: 1, vectors: 0, bias: 0 } : { lora: loraShare, vectors: vectorShare, bias: biasShare };
  if (arithmetic === 'exact') {
    const grid = gridFor(clipNorm);
    return { bounds: groupBounds(grid, shares), step: grid.step };
  }
  const { lora, vectors, bias } = shares;
  return { bounds: { lora: clipNorm * lora, vectors: clipNorm * vectors, bias: clipNorm * bias }, step: null };
}

export interface TrainerSettings {
  config: DecoderConfig;
  adapter: AdapterShape;
  schedule: Schedule;
  mechanism: TrainingMechanism;
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
  /** Called before each program is compiled: all of them before the first step. */
  compiling(shape: MicrobatchShape): Promise<void>;
}

/** A compiled microbatch gradient. */
interface Program {
  rows: number;
  run: MicrobatchGradient;
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
  private readonly clipping: Clipping;
  private readonly compiled = new Map<number, Program>();

  /** @param weights of the frozen base model; the caller keeps and disposes them. */
  constructor(settings: TrainerSettings, weights: Record<string, Tensor>, records: readonly EncodedRecord[]) {
    this.settings = settings;
    this.weights = weights;
    this.records = records;
    this.parameters = adapterParameters(settings.config, settings.adapter);
    const { mechanism } = settings;
    this.clipNorm = mechanism.kind === 'unbounded' ? null : mechanism.clipNorm;
    this.clipping = clippingFor(mechanism, settings.adapter);
    if (this.clipping !== null && this.clipping.step !== null) {
      const most = mostRows(Math.max(...Object.values(this.clipping.bounds)));
      const rows = Math.max(...settings.layout.map((shape) => shape.rows));
      if (rows > most) throw new RangeError(`sums over ${rows} rows do not fit 32 bits: at most ${most}`);
    }
  }

  /** Trains from `state`, which it changes, to the end of the schedule. Returns as `trainInSteps` does. */
  async train(state: TrainingState, hooks: TrainerHooks): Promise<MechanismProof | null> {
    const { schedule, mechanism, unboundedBatch, secret, layout, padId } = this.settings;
    const parameters = this.parameters.map((each) => ({ ...each, rateMultiple: rateMultiples[each.group] }));
    const sums = (drawn: Int32Array): Promise<BatchSums> =>
      this.gradientSums(state, microbatches(this.records, drawn, layout, padId), hooks);
    const records = this.records.length;
    // When a program was first needed would tell when a record of its length was first drawn.
    for (const shape of layout) await this.gradientFor(shape, hooks);
    return trainInSteps({ parameters, schedule, mechanism, unboundedBatch, secret, records }, state, sums, hooks);
  }

  /** Frees compiled programs. */
  dispose(): void {
    for (const { run } of this.compiled.values()) run.dispose();
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
        const program = await this.gradientFor(batch.shape, hooks);
        for (const part of program.rows === batch.shape.rows ? [batch] : singleRows(batch)) {
          const outputs = this.run(program.run, part, adapter);
          for (const { name, values } of parameterSums(this.parameters, outputs.sums)) {
            const sum = sums[name] as Float64Array;
            for (let place = 0; place < sum.length; place++) sum[place] = (sum[place] as number) + values(place);
          }
          for (const value of outputs.losses.dataSync()) loss += value;
          disposeTree(outputs);
        }
        await hooks.between({ step: state.step, microbatch: index + 1, of: batches.length });
      }
    } finally {
      disposeTree(adapter);
    }
    return { sums, loss, clipNorm: this.clipNorm, step: this.clipping?.step ?? null };
  }

  /**
   * The compiled gradient for a shape, of as many rows. In exact arithmetic, where the machine doesn't treat all rows
   * alike, of a single row: slow, but an example's contribution is then its own.
   */
  private async gradientFor(shape: MicrobatchShape, hooks: TrainerHooks): Promise<Program> {
    const known = this.compiled.get(shape.time);
    if (known) return known;
    const compiled = async (rows: number): Promise<Program> => {
      await hooks.compiling({ rows, time: shape.time });
      const { config, adapter } = this.settings;
      return { rows, run: compileMicrobatchGradient(config, adapter, this.clipping, { rows, time: shape.time }) };
    };
    let program = await compiled(shape.rows);
    const { config, adapter } = this.settings;
    const isExact = this.clipping !== null && this.clipping.step !== null;
    if (isExact && !rowsAreIndependent(program.run, { config, adapter, weights: this.weights }, shape)) {
      program.run.dispose();
      program = await compiled(1);
    }
    this.compiled.set(shape.time, program);
    return program;
  }

  private run(gradient: MicrobatchGradient, batch: Microbatch, adapter: Record<string, Tensor>): MicrobatchOutputs {
    const data = microbatchTensors(batch);
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
