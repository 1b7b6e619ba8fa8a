/**
 * @file Gradients of all weights of a model, summed over a microbatch: each example's clipped as a whole, by
 * book-keeping, or without DP plain. Class rows and a classifier's head, of which each example has
 * its own, are groups of their own.
 *
 * In float arithmetic only: norms that are never written down can't bound what is truncated to a grid.
 */

import {
  classBias,
  classInput,
  classOutput,
  headBias,
  headWeight,
  trainedParameters,
  tunedWeights,
  type ParameterGroup,
  type TunedShape,
} from '../tuning/parameters.ts';
import { compile, disposeTree } from '../compile/index.ts';
import type { Layers } from '../decoder/blocks.ts';
import type { ModelConfig } from '../decoder/config.ts';
import type { Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { keepBooks, squaredNormOf, weightedSum, type Book } from './book-keeping.ts';
import { exampleLosses } from './example-losses.ts';
import {
  classSums,
  clipMargin,
  clippedFloats,
  rowNorms,
  tiled,
  type Clipping,
  type MicrobatchGradient,
  type MicrobatchInputs,
  type MicrobatchOutputs,
  type ProgramShape,
} from './gradients.ts';

/** Below any square that matters; keeps the quotient finite for an example without gradient. */
const leastSquare = 1e-24;

type FullTuned = TunedShape & { kind: 'full' };

/** The examples' own copies of what is trained beside the weights, [rows, ...] each: class rows, or a head. */
function ownBeside({ classes, head }: FullTuned, { adapter, labels }: MicrobatchInputs): Tensor[] {
  if (head) return [headWeight, headBias].map((name) => tiled(adapter[name] as Tensor, labels.size));
  if (classes === 0) return [];
  return [classInput, classOutput, classBias].map((name) => tf.gather(adapter[name] as Tensor, labels as never));
}

/** The losses [rows] with those. */
function lossesWith(
  config: ModelConfig,
  { head }: FullTuned,
  inputs: MicrobatchInputs,
  { weights, layers, own }: { weights: Weights; layers?: Layers; own: readonly Tensor[] },
): Tensor {
  const [first, second, third] = own as [Tensor, Tensor, Tensor];
  if (head) return exampleLosses(config, weights, inputs, { layers, head: { weight: first, bias: second } });
  const conditioning = own.length === 0 ? undefined : { input: first, output: second, bias: third };
  return exampleLosses(config, weights, inputs, { layers, conditioning });
}

/** Gradients of those by group, [rows, size] each. */
function groupsOf({ head }: FullTuned, own: readonly Tensor[]): [ParameterGroup, Tensor][] {
  if (own.length === 0) return [];
  const [first, second, third] = own.map((each) => each.reshape([each.shape[0] as number, -1])) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  if (head) return [['head', tf.concat([first, second], 1)]];
  return [
    ['vectors', tf.concat([first, second], 1)],
    ['bias', third],
  ];
}

/** Sums over examples of a group's [rows, size]. */
const summed = (group: ParameterGroup, rows: Tensor, { classes }: FullTuned, labels: Tensor): Tensor =>
  group === 'head' ? rows.sum(0) : classSums(rows, labels, classes);

function clippedGradient(
  config: ModelConfig,
  tuned: FullTuned,
  bounds: NonNullable<Clipping>['bounds'],
  inputs: MicrobatchInputs,
): MicrobatchOutputs {
  const rows = inputs.present.size;
  const [, time] = inputs.lossWeights.shape as [number, number];
  const { weights, labels } = inputs;
  const { losses, books, others } = keepBooks(
    config,
    tuned,
    weights,
    inputs.tokens.slice([0, 0], [rows, time]),
    (layers, own) => lossesWith(config, tuned, inputs, { weights, layers, own }),
    ownBeside(tuned, inputs),
  );
  const squares = tf.addN(Array.from(books.values(), squaredNormOf)) as Tensor;
  const beside = groupsOf(tuned, others).map(([group, matrix]) => ({ group, matrix, norms: rowNorms(matrix) }));
  const counts = [squares, losses, ...beside.map(({ norms }) => norms)].reduce<Tensor>(
    (all, values) => tf.logicalAnd(all, tf.isFinite(values)),
    tf.greater(inputs.present, 0),
  );
  // Differences of rounding may take a sum of products slightly below zero.
  const norms = tf.maximum(squares, leastSquare).sqrt() as Tensor;
  const factors = tf.minimum(1, tf.div(bounds.weights! * (1 - clipMargin), norms)) as Tensor;
  const sums = Object.fromEntries(
    Object.entries(tunedWeights(config, tuned)).map(([name, shape]) => {
      const parts = (books.get(name) as Book[]).map((book) => weightedSum(book, factors, counts, shape));
      return [name, tf.addN(parts) as Tensor];
    }),
  );
  for (const { group, matrix, norms } of beside) {
    const contributions = clippedFloats(matrix, norms, bounds[group]!);
    const kept = tf.where(counts.reshape([rows, 1]), contributions, tf.zerosLike(contributions)) as Tensor;
    sums[group] = summed(group, kept, tuned, labels);
  }
  return { sums, losses: tf.where(counts, losses, tf.zerosLike(losses)) };
}

/** Without clipping: one backward pass that knows nothing of examples. */
function plainGradient(config: ModelConfig, tuned: FullTuned, inputs: MicrobatchInputs): MicrobatchOutputs {
  const names = Object.keys(tunedWeights(config, tuned));
  const losses = (...list: Tensor[]): Tensor => {
    const weights = Object.fromEntries(names.map((name, index) => [name, list[index] as Tensor]));
    // Padding of a microbatch has no loss; of a classifier it would have a class.
    return lossesWith(config, tuned, inputs, { weights, own: list.slice(names.length) }).mul(inputs.present);
  };
  const own = [...names.map((name) => inputs.weights[name] as Tensor), ...ownBeside(tuned, inputs)];
  const rows = inputs.present.size;
  const { value, grads } = tf.valueAndGrads(losses as never)(own, tf.ones([rows]) as never);
  const sums = Object.fromEntries(names.map((name, index) => [name, grads[index] as Tensor]));
  for (const [group, matrix] of groupsOf(tuned, grads.slice(names.length) as Tensor[])) {
    sums[group] = summed(group, matrix, tuned, inputs.labels);
  }
  return { sums, losses: value as Tensor };
}

/** Compiles the gradient of all weights over microbatches of `rows` examples with `time` predicted tokens. */
export function compileFullGradient(
  config: ModelConfig,
  tuned: FullTuned,
  clipping: Clipping,
  { rows, time, atOnce = 1 }: ProgramShape,
): MicrobatchGradient {
  if (clipping !== null && clipping.step !== null) {
    throw new TypeError('gradients of all weights are clipped in float arithmetic only');
  }
  const parts: Pick<MicrobatchInputs, 'weights' | 'adapter'> = { weights: {}, adapter: {} };
  for (const { name, shape, group } of trainedParameters(config, tuned)) {
    parts[group === 'weights' ? 'weights' : 'adapter'][name] = tf.zeros(shape);
  }
  const example: MicrobatchInputs = {
    ...parts,
    tokens: tf.zeros([rows, time + 1], 'int32'),
    lossWeights: tf.zeros([rows, time]),
    labels: tf.zeros([rows], 'int32'),
    present: tf.zeros([rows]),
  };
  try {
    return compile(
      (inputs: MicrobatchInputs) =>
        clipping === null
          ? plainGradient(config, tuned, inputs)
          : clippedGradient(config, tuned, clipping.bounds, inputs),
      example,
      { atOnce },
    );
  } finally {
    disposeTree(example);
  }
}
