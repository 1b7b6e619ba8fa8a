/**
 * @file Per-example gradients of an adapter, clipped by group and summed over a microbatch: one forward, one backward.
 *
 * The forward pass uses the shared matrices in plain products over all rows. What must be known for each example, the
 * gradient of its own copy of a low-rank matrix, is a small product [rank, in] or [out, rank] of its layer inputs and
 * output gradients, made where the backward pass meets the layer; the norm is taken of these products themselves, so
 * clipping is exact. (Book-keeping, Bu et al. 2023, arXiv:2210.00038, with direct norms instead of ghost norms.)
 *
 * In exact arithmetic each example's clipped gradient is truncated to integers, and the integers are added up.
 */

import { compile, disposeTree, type CompiledFunction } from '../compile/index.ts';
import {
  classBias,
  classInput,
  classOutput,
  headBias,
  headWeight,
  isLoraUp,
  promptName,
  sizeOf,
  trainedParameters,
  type AdapterShape,
  type Parameter,
  type ParameterGroup,
} from '../tuning/parameters.ts';
import { weightShapes, type ModelConfig } from '../decoder/config.ts';
import type { Conditioning } from '../decoder/forward.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { exampleLosses } from './example-losses.ts';
import { loraLayers } from './lora-layers.ts';
import type { Microbatch, MicrobatchShape } from './sequences.ts';

type TensorRecord = Record<string, Tensor>;

const groupNames: readonly ParameterGroup[] = ['lora', 'prompt', 'weights', 'vectors', 'bias', 'head'];

/**
 * Largest norm of each group's part of an example's gradient, in `step`s when there is one: gradients are then truncated
 * to whole steps. Null: not clipped.
 */
export type Clipping = { bounds: Readonly<Partial<Record<ParameterGroup, number>>>; step: number | null } | null;

export type MicrobatchInputs = {
  /** Of the model, whether they are trained or not. */
  weights: TensorRecord;
  /** What is trained beside them. */
  adapter: TensorRecord;
  /** [rows, time + 1] int32, each in [0, vocab). */
  tokens: Tensor;
  /** [rows, time] float32: weight of predicting token t + 1 in its row's loss; of a classifier, of a hidden state. */
  lossWeights: Tensor;
  /** [rows] int32, each in [0, classes); zeros without class conditioning. */
  labels: Tensor;
  /** [rows] float32: 1 for an example, 0 for padding. */
  present: Tensor;
};

export type MicrobatchOutputs = {
  /**
   * Sum over examples of clipped gradients, read with `addSums`: by group [size] of the LoRA matrices one after the
   * other, B transposed, [length * dim] of a prompt, [classes, size] of class rows side by side, [size] of a head; the
   * model's weights by name. A group without parameters is absent. int32, in steps, in exact arithmetic, float32 otherwise.
   */
  sums: TensorRecord;
  /** [rows] float32: loss of each example, 0 for padding. */
  losses: Tensor;
};

export type MicrobatchGradient = CompiledFunction<MicrobatchInputs, MicrobatchOutputs>;

/** Copies of the parameters, one for each example: what the gradient of an example's loss is taken by. */
function ownCopies(parameters: readonly Parameter[], { adapter, labels }: MicrobatchInputs): Tensor[] {
  const rows = labels.size;
  return parameters.map(({ name, shape, group }): Tensor => {
    if (group === 'lora') return tf.zeros([rows, ...(isLoraUp({ name }) ? shape.toReversed() : shape)]);
    const shared = adapter[name] as Tensor;
    const isClass = group === 'vectors' || group === 'bias';
    return isClass ? tf.gather(shared, labels as never) : tiled(shared, rows);
  });
}

/** A copy for each example: [rows, ...]. */
export const tiled = (shared: Tensor, rows: number): Tensor =>
  tf.tile(shared.expandDims(0), [rows, ...shared.shape.map(() => 1)]);

/** Gradients of the examples' losses by parameter, each [rows, ...]: [rows, dim] or [rows, vocab] for class rows. */
function exampleGradients(
  config: ModelConfig,
  adapter: AdapterShape,
  inputs: MicrobatchInputs,
): { losses: Tensor; gradients: TensorRecord } {
  const { weights } = inputs;
  const rows = inputs.labels.size;
  const parameters = trainedParameters(config, adapter);
  const own = ownCopies(parameters, inputs);
  const place = new Map(parameters.map(({ name }, index) => [name, index]));
  const losses = (...list: Tensor[]): Tensor => {
    const ownOf = (name: string): Tensor => list[place.get(name) as number] as Tensor;
    const layers =
      adapter.kind === 'lora' ? loraLayers(config, weights, { ...adapter, tensors: inputs.adapter, ownOf }) : undefined;
    const conditioning: Conditioning | undefined =
      adapter.classes > 0
        ? { input: ownOf(classInput), output: ownOf(classOutput), bias: ownOf(classBias) }
        : undefined;
    const prompt = adapter.kind === 'prompt' ? ownOf(promptName) : undefined;
    const head = adapter.head && { weight: ownOf(headWeight), bias: ownOf(headBias) };
    return exampleLosses(config, weights, inputs, { layers, conditioning, prompt, head });
  };
  // The loss of a row depends on its own copies only, so the gradient of the sum holds each example's gradient.
  const { value, grads } = tf.valueAndGrads(losses as never)(own, tf.ones([rows]) as never);
  const gradients = Object.fromEntries(parameters.map(({ name }, index) => [name, grads[index] as Tensor]));
  return { losses: value as Tensor, gradients };
}

/** Share by which a clipped norm stays below its bound in float arithmetic, for rounding in norm and scaling. */
export const clipMargin = 2e-6;

/** Far below any square that matters, and far above what underflow may take from 256 squares. */
const leastSquare = 1e-24;

/** Squares are added up in threads of so many, side by side, and then the threads. */
const thread = 256;

/** Bound of the relative error of a row's squared norm, with room for some more roundings. */
const squaredNormError = (size: number): number => (thread + Math.ceil(size / thread) + 4) * 2 ** -24;

/**
 * Norm of each row of a matrix [rows, size] -> [rows]. The square is added up in two stages and in whatever order inside
 * of them: a sum of n squares has a relative error of about n 2^-24 at most (Higham 2002, section 4.2), so that of both
 * is `squaredNormError` and does not grow with the size itself. The maximum between them covers underflow; no compiler
 * can make one stage of the two across it.
 */
export function rowNorms(matrix: Tensor): Tensor {
  const [rows, size] = matrix.shape as [number, number];
  const squares = matrix.square();
  const whole = size - (size % thread);
  const parts: Tensor[] = [];
  if (whole > 0) {
    const threads = squares.slice([0, 0], [rows, whole]).reshape([rows, thread, whole / thread]);
    parts.push(threads.sum(1));
  }
  if (whole < size) parts.push(squares.slice([0, whole], [rows, size - whole]).sum(1, true));
  return tf.maximum(tf.concat(parts, 1), leastSquare).sum(1).sqrt();
}

/** Gradients [rows, size] of norms [rows], each of norm `bound` at most but for rounding in float32. */
export function clippedFloats(matrix: Tensor, norms: Tensor, bound: number): Tensor {
  return matrix.mul(tf.minimum(1, tf.div(bound * (1 - clipMargin), norms)).reshape([-1, 1]));
}

/**
 * Gradients [rows, size] of norms [rows] as int32 in steps, truncated toward zero, each of norm `bound` steps at most: a
 * margin is kept for the error of the computed norm and the roundings of quotient and product, and truncation only
 * shortens. Rows whose norm is not finite are of no use.
 */
function clippedSteps(matrix: Tensor, norms: Tensor, bound: number, step: number): Tensor {
  const margin = squaredNormError(matrix.shape[1] as number);
  const factor = tf.minimum(1 / step, tf.div(bound * (1 - margin), norms));
  return tf.cast(matrix.mul(factor.reshape([-1, 1])), 'int32');
}

function clipped(matrix: Tensor, norms: Tensor, group: ParameterGroup, clipping: Clipping): Tensor {
  if (clipping === null) return matrix;
  const bound = clipping.bounds[group] as number;
  return clipping.step === null
    ? clippedFloats(matrix, norms, bound)
    : clippedSteps(matrix, norms, bound, clipping.step);
}

/** The pure function that `compileMicrobatchGradient` compiles. */
export function microbatchGradient(
  config: ModelConfig,
  adapter: AdapterShape,
  clipping: Clipping,
  inputs: MicrobatchInputs,
): MicrobatchOutputs {
  const rows = inputs.present.size;
  const parameters = trainedParameters(config, adapter);
  const { losses, gradients } = exampleGradients(config, adapter, inputs);
  // Each group's gradient as one matrix [rows, size]: few large kernels instead of several for each parameter.
  const members = (group: ParameterGroup): Parameter[] => parameters.filter((parameter) => parameter.group === group);
  const groups = groupNames
    .filter((group) => members(group).length > 0)
    .map((group) => {
      const flat = members(group).map(({ name }) => (gradients[name] as Tensor).reshape([rows, -1]));
      const matrix = tf.concat(flat, 1) as Tensor;
      const norms = rowNorms(matrix);
      return { group, norms, contributions: clipped(matrix, norms, group, clipping) };
    });
  // One non-finite number anywhere makes the whole example contribute zero, as padding does.
  const counts = [...groups.map(({ norms }) => norms), losses].reduce<Tensor>(
    (all, values) => tf.logicalAnd(all, tf.isFinite(values)),
    tf.greater(inputs.present, 0),
  );
  const sums: TensorRecord = {};
  for (const { group, contributions } of groups) {
    const kept = tf.where(counts.reshape([rows, 1]), contributions, tf.zerosLike(contributions)) as Tensor;
    const isClass = group === 'vectors' || group === 'bias';
    sums[group] = isClass ? classSums(kept, inputs.labels, adapter.classes) : kept.sum(0);
  }
  return { sums, losses: tf.where(counts, losses, tf.zerosLike(losses)) };
}

/** Rows [rows, size] of examples added up by class: [classes, size]. @param labels [rows] int32 */
export const classSums = (rows: Tensor, labels: Tensor, classes: number): Tensor =>
  tf.matMul(tf.oneHot(labels as never, classes, 1, 0, rows.dtype as 'int32'), rows as never, true, false);

/** Adds to a matrix [height, width] what lies in `values` column by column. */
function addTransposed(total: Float64Array, shape: readonly number[], values: ArrayLike<number>, from: number): void {
  const [height, width] = shape as [number, number];
  for (let column = 0; column < width; column++) {
    for (let row = 0; row < height; row++) {
      const at = row * width + column;
      total[at] = (total[at] as number) + (values[from + column * height + row] as number);
    }
  }
}

/** Adds a microbatch's sums to the parameters' totals. */
export function addSums(
  parameters: readonly Parameter[],
  sums: Readonly<TensorRecord>,
  totals: Readonly<Record<string, Float64Array>>,
): void {
  const add = (name: string, to: number, values: ArrayLike<number>, from: number, count: number): void => {
    const total = totals[name] as Float64Array;
    for (let at = 0; at < count; at++) total[to + at] = (total[to + at] as number) + (values[from + at] as number);
  };
  for (const group of groupNames) {
    const members = parameters.filter((parameter) => parameter.group === group);
    if (group === 'weights') {
      for (const member of members) add(member.name, 0, (sums[member.name] as Tensor).dataSync(), 0, sizeOf(member));
      continue;
    }
    if (members.length === 0) continue;
    const flat = (sums[group] as Tensor).dataSync();
    // A LoRA matrix, a prompt and a head lie in one piece; of class rows there is one piece a class.
    const isClass = group === 'vectors' || group === 'bias';
    const pieces = isClass ? (members[0] as Parameter).shape[0]! : 1;
    let from = 0;
    for (let piece = 0; piece < pieces; piece++) {
      for (const member of members) {
        const width = isClass ? member.shape[1]! : sizeOf(member);
        if (isLoraUp(member)) addTransposed(totals[member.name] as Float64Array, member.shape, flat, from);
        else add(member.name, piece * width, flat, from, width);
        from += width;
      }
    }
  }
}

/** A microbatch as the inputs of its gradient; the caller disposes them. */
export function microbatchTensors(batch: Microbatch): Omit<MicrobatchInputs, 'weights' | 'adapter'> {
  const { rows, time } = batch.shape;
  return {
    tokens: tf.tensor2d(batch.tokens, [rows, time + 1], 'int32'),
    lossWeights: tf.tensor2d(batch.lossWeights, [rows, time]),
    labels: tf.tensor1d(batch.labels, 'int32'),
    present: tf.tensor1d(batch.present),
  };
}

export interface ProgramShape extends MicrobatchShape {
  /** Most microbatches that are computed side by side. Default 1. */
  atOnce?: number;
}

/** Compiles the gradient of microbatches of `rows` examples with `time` predicted tokens. */
export function compileMicrobatchGradient(
  config: ModelConfig,
  adapter: AdapterShape,
  clipping: Clipping,
  { rows, time, atOnce = 1 }: ProgramShape,
): MicrobatchGradient {
  const zeros = (shapes: Record<string, number[]>): TensorRecord =>
    Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, tf.zeros(shape) as Tensor]));
  const shapes = Object.fromEntries(trainedParameters(config, adapter).map(({ name, shape }) => [name, shape]));
  const example: MicrobatchInputs = {
    weights: zeros(weightShapes(config)),
    adapter: zeros(shapes),
    tokens: tf.zeros([rows, time + 1], 'int32'),
    lossWeights: tf.zeros([rows, time]),
    labels: tf.zeros([rows], 'int32'),
    present: tf.zeros([rows]),
  };
  try {
    return compile((inputs) => microbatchGradient(config, adapter, clipping, inputs), example, { atOnce });
  } finally {
    disposeTree(example);
  }
}
