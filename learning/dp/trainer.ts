/**
 * @file DP-SGD on what a fine-tuning method trains: microbatches of fixed shape, each example's gradient clipped by group.
 *
 * The groups' clip norms are shares of the clip norm C whose squares sum to 1, so an example moves the whole sum by at
 * most C. In exact arithmetic sums are integers: int32 in a microbatch, which cannot overflow, then in doubles.
 */

import type { MechanismProof } from '../../schemas/artifact.ts';
import type { TrainingMechanism } from '../../schemas/plan.ts';
import type { Optimizer } from '../../schemas/step-params.ts';
import {
  sizeOf,
  trainedParameters,
  type Parameter,
  type ParameterGroup,
  type TrainedValues,
  type TunedShape,
} from '../tuning/parameters.ts';
import { disposeTree } from '../compile/index.ts';
import { letGo } from '../host-memory.ts';
import type { ModelConfig } from '../decoder/config.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { decays, rateMultiple } from './optimisers.ts';
import type { Schedule } from '../schedule.ts';
import { compileFullGradient } from './full-gradient.ts';
import type { TrainingState } from './checkpoint.ts';
import {
  addSums,
  clipMargin,
  compileMicrobatchGradient,
  microbatchTensors,
  type Clipping,
  type MicrobatchGradient,
  type MicrobatchInputs,
  type MicrobatchOutputs,
} from './gradients.ts';
import { gridFor, groupBounds, mostRows } from './grid.ts';
import { trainInSteps, type BatchSums, type LoopHooks } from './outer-loop.ts';
import { rowsAreIndependent } from './row-independence.ts';
import {
  fillMicrobatch,
  microbatches,
  singleRows,
  type EncodedRecord,
  type Microbatch,
  type MicrobatchShape,
} from './sequences.ts';

/** Shares of the clip norm with class conditioning; without it the method's own parameters have all of it. */
const biasShare = 0.6;
const vectorShare = 0.4;
const ownShare = Math.sqrt(1 - biasShare ** 2 - vectorShare ** 2);
/** Of a classifier: the head's share, and what is left of the clip norm. */
const headShare = 0.6;
const bodyShare = 0.8;

/** How each group is clipped under a mechanism. */
export function clippingFor(
  mechanism: TrainingMechanism,
  { kind, classes, head }: Pick<TunedShape, 'kind' | 'classes' | 'head'>,
): Clipping {
  if (mechanism.kind === 'unbounded') return null;
  const { clipNorm, arithmetic } = mechanism;
  const own = kind === 'full' ? 'weights' : kind;
  const conditioned = classes === 0 ? { [own]: 1 } : { [own]: ownShare, vectors: vectorShare, bias: biasShare };
  const shares: Partial<Record<ParameterGroup, number>> = head ? { [own]: bodyShare, head: headShare } : conditioned;
  if (arithmetic === 'exact') {
    const grid = gridFor(clipNorm);
    return { bounds: groupBounds(grid, shares), step: grid.step };
  }
  const bounds = Object.entries(shares).map(([group, share]) => [group, clipNorm * share]);
  return { bounds: Object.fromEntries(bounds) as Partial<Record<ParameterGroup, number>>, step: null };
}

/** Largest norm of an example's contribution under the bounds that gradients are really clipped to. */
export function largestNorm(clipping: Clipping): number | null {
  if (clipping === null) return null;
  return Math.hypot(...Object.values(clipping.bounds)) * (clipping.step ?? 1 - clipMargin);
}

export interface TrainerSettings {
  config: ModelConfig;
  tuned: TunedShape;
  optimizer: Optimizer;
  schedule: Schedule;
  mechanism: TrainingMechanism;
  /** Without DP: how batches are drawn. */
  unboundedBatch: { samplingProbability: number; expectedBatchSize: number; seed: number };
  /** With DP: secret of the noise and sampling. */
  secret: { key: Buffer; nodeKey: string } | null;
  layout: readonly MicrobatchShape[];
  /** Most microbatches that are computed side by side; no number depends on it. */
  atOnce: number;
  padId: number;
  /** What decides the last bits of sums beside the programs: see `machine` of `learning/machine.ts`. */
  machine: string;
  /** Digest of the frozen weights: sums depend on them, and a content key need not fix their last bits. */
  base: string | null;
}

export interface TrainerHooks extends LoopHooks {
  /** Called between microbatches; may throw to stop. The state is that of the last complete step. */
  between(done: { step: number; microbatch: number; of: number }): Promise<void>;
  /** Called before each program is compiled: all of them before the first step. */
  compiling(shape: MicrobatchShape): Promise<void>;
}

/** Trained weights of the model, and what is trained beside it. */
export type Trained = Pick<MicrobatchInputs, 'weights' | 'adapter'>;

/** A compiled microbatch gradient. */
interface Program {
  rows: number;
  run: MicrobatchGradient;
}

/** Neighbours of one shape, `most` at a time. */
function groupsOfOneShape(batches: readonly Microbatch[], most: number): Microbatch[][] {
  const groups: Microbatch[][] = [];
  for (const batch of batches) {
    const last = groups.at(-1);
    if (last && last.length < most && last[0]!.shape.time === batch.shape.time) last.push(batch);
    else groups.push([batch]);
  }
  return groups;
}

/** What is trained, on the device. */
export function uploaded(parameters: readonly Parameter[], values: TrainedValues): Trained {
  const trained: Trained = { weights: {}, adapter: {} };
  for (const { name, shape, group } of parameters) {
    trained[group === 'weights' ? 'weights' : 'adapter'][name] = tf.tensor(values[name]!, shape);
  }
  return trained;
}

export class Trainer {
  readonly parameters: Parameter[];
  private readonly settings: TrainerSettings;
  private readonly frozen: Record<string, Tensor>;
  private readonly records: readonly EncodedRecord[];
  private readonly clipping: Clipping;
  private readonly compiled = new Map<number, Program>();

  /** @param frozen weights of the base model, not read when they are trained; the caller keeps and disposes them. */
  constructor(settings: TrainerSettings, frozen: Record<string, Tensor>, records: readonly EncodedRecord[]) {
    this.settings = settings;
    this.frozen = frozen;
    this.records = records;
    this.parameters = trainedParameters(settings.config, settings.tuned);
    const { mechanism } = settings;
    this.clipping = clippingFor(mechanism, settings.tuned);
    if (this.clipping !== null && this.clipping.step !== null) {
      const most = mostRows(Math.max(...Object.values(this.clipping.bounds)));
      const rows = Math.max(...settings.layout.map((shape) => shape.rows));
      if (rows > most) throw new RangeError(`sums over ${rows} rows do not fit 32 bits: at most ${most}`);
    }
  }

  /** Trains from `state`, which it changes, to the end of the schedule. Returns as `trainInSteps` does. */
  async train(state: TrainingState, hooks: TrainerHooks): Promise<MechanismProof | null> {
    const { optimizer, schedule, mechanism, unboundedBatch, secret, layout, padId, tuned, machine, base } =
      this.settings;
    const parameters = this.parameters.map((each) => ({
      ...each,
      rateMultiple: rateMultiple(tuned, each.group),
      decays: decays(each),
    }));
    const sums = (drawn: Int32Array): Promise<BatchSums> =>
      this.gradientSums(state, microbatches(this.records, drawn, layout, padId), hooks);
    const records = this.records.length;
    await this.prepare(state, hooks);
    const cut = layout.map(({ time, rows }) => ({ time, rows, program: this.programOf({ time }).rows }));
    const computation = JSON.stringify({ machine, base, cut });
    const settings = { parameters, optimizer, schedule, mechanism, unboundedBatch, secret, records, computation };
    return trainInSteps(settings, state, sums, hooks);
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
    const bytesRead = this.parameters.reduce((sum, each) => sum + Float32Array.BYTES_PER_ELEMENT * sizeOf(each), 0);
    let loss = 0;
    const trained = uploaded(this.parameters, state.values);
    try {
      let microbatch = 0;
      for (const group of groupsOfOneShape(batches, this.settings.atOnce)) {
        const program = this.programOf(group[0]!.shape);
        const parts = group.flatMap((batch) => (program.rows === batch.shape.rows ? [batch] : singleRows(batch)));
        for (const outputs of this.run(program.run, parts, trained)) {
          addSums(this.parameters, outputs.sums, sums);
          for (const value of outputs.losses.dataSync()) loss += value;
          disposeTree(outputs);
          letGo(bytesRead);
        }
        for (let each = 0; each < group.length; each++) {
          await hooks.between({ step: state.step, microbatch: ++microbatch, of: batches.length });
        }
      }
    } finally {
      disposeTree(trained);
    }
    return { sums, loss, largestNorm: largestNorm(this.clipping), step: this.clipping?.step ?? null };
  }

  /**
   * Compiles the programs of all shapes and runs each once, on padding: XLA makes machine code at a program's first run,
   * and keeps it on disk. When that happened would tell when a record of its length was first drawn.
   */
  private async prepare(state: TrainingState, hooks: TrainerHooks): Promise<void> {
    const trained = uploaded(this.parameters, state.values);
    try {
      for (const shape of this.settings.layout) {
        if (this.compiled.has(shape.time)) continue;
        const program = await this.compiledFor(shape, hooks);
        this.compiled.set(shape.time, program);
        const padding = fillMicrobatch({ rows: program.rows, time: shape.time }, [], this.settings.padId);
        disposeTree(this.run(program.run, [padding], trained));
      }
    } finally {
      disposeTree(trained);
    }
  }

  private programOf({ time }: Pick<MicrobatchShape, 'time'>): Program {
    return this.compiled.get(time) as Program;
  }

  /**
   * The compiled gradient for a shape, of as many rows. In exact arithmetic, where the machine doesn't treat all rows
   * alike, of a single row: slow, but an example's contribution is then its own.
   */
  private async compiledFor(shape: MicrobatchShape, hooks: TrainerHooks): Promise<Program> {
    const { config, tuned, atOnce } = this.settings;
    const compiled = async (rows: number): Promise<Program> => {
      await hooks.compiling({ rows, time: shape.time });
      const shaped = { rows, time: shape.time, atOnce };
      const run =
        tuned.kind === 'full'
          ? compileFullGradient(config, tuned, this.clipping, shaped)
          : compileMicrobatchGradient(config, tuned, this.clipping, shaped);
      return { rows, run };
    };
    const program = await compiled(shape.rows);
    const isExact = this.clipping !== null && this.clipping.step !== null;
    const model = { config, tuned, weights: this.frozen };
    if (!isExact || rowsAreIndependent(program.run, model, shape)) return program;
    program.run.dispose();
    return compiled(1);
  }

  private run(
    gradient: MicrobatchGradient,
    batches: readonly Microbatch[],
    { weights, adapter }: Trained,
  ): MicrobatchOutputs[] {
    const data = batches.map(microbatchTensors);
    const shared = { weights: this.settings.tuned.kind === 'full' ? weights : this.frozen, adapter };
    try {
      return gradient.all(data.map((own) => ({ ...shared, ...own })));
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
