/**
 * @file Gradients of all weights of a decoder, summed over a microbatch: each example's clipped as a whole, by
 * book-keeping, or without DP plain. Class rows, of which each example has its own, are groups of their own.
 *
 * In float arithmetic only: norms that are never written down can't bound what is truncated to a grid.
 */

import { classBias, classInput, classOutput, trainedParameters, type TunedShape } from '../tuning/parameters.ts';
import { compile, disposeTree } from '../compile/index.ts';
import type { Layers } from '../decoder/blocks.ts';
import { weightShapes, type DecoderConfig } from '../decoder/config.ts';
import { flatLogits, type Conditioning } from '../decoder/forward.ts';
import { crossEntropy } from '../decoder/loss.ts';
import type { Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { keepBooks, squaredNormOf, weightedSum, type Book } from './book-keeping.ts';
import {
  classSums,
  clipMargin,
  clippedFloats,
  rowNorms,
  type Clipping,
  type MicrobatchGradient,
  type MicrobatchInputs,
  type MicrobatchOutputs,
  type ProgramShape,
} from './gradients.ts';

/** Below any square that matters; keeps the quotient finite for an example without gradient. */
const leastSquare = 1e-24;

/** Losses [rows] of the examples, without their class rows unless `conditioning` holds them. */
export function lossesOf(
  config: DecoderConfig,
  { tokens, lossWeights }: MicrobatchInputs,
  weights: Weights,
  options: { layers?: Layers; conditioning: Conditioning | undefined },
): Tensor {
  const [rows, time] = lossWeights.shape as [number, number];
  const logits = flatLogits(config, weights, tokens.slice([0, 0], [rows, time]), options);
  const targets = tokens.slice([0, 1], [rows, time]).reshape([rows * time]);
  return crossEntropy(logits, targets, lossWeights.reshape([rows * time]))
    .reshape([rows, time])
    .sum(1);
}

const classTables = [classInput, classOutput, classBias] as const;

/** The examples' own copies of their class rows, [rows, ...] each; none without class conditioning. */
const ownClassRows = (classes: number, { adapter, labels }: MicrobatchInputs): Tensor[] =>
  classes === 0 ? [] : classTables.map((name) => tf.gather(adapter[name] as Tensor, labels as never));

const conditioningOf = (own: readonly Tensor[]): Conditioning | undefined =>
  own.length === 0 ? undefined : { input: own[0]!, output: own[1]!, bias: own[2]! };

/** Gradients of class rows as the groups `vectors` and `bias`, [rows, size] each. */
const classGroups = ([input, output, bias]: readonly Tensor[]): { vectors: Tensor; bias: Tensor } => ({
  vectors: tf.concat([input!, output!], 1),
  bias: bias!,
});

function clippedGradient(
  config: DecoderConfig,
  classes: number,
  bounds: NonNullable<Clipping>['bounds'],
  inputs: MicrobatchInputs,
): MicrobatchOutputs {
  const rows = inputs.present.size;
  const [, time] = inputs.lossWeights.shape as [number, number];
  const { losses, books, others } = keepBooks(
    config,
    inputs.weights,
    inputs.tokens.slice([0, 0], [rows, time]),
    (layers, own) => lossesOf(config, inputs, inputs.weights, { layers, conditioning: conditioningOf(own) }),
    ownClassRows(classes, inputs),
  );
  const squares = tf.addN(Array.from(books.values(), squaredNormOf)) as Tensor;
  const groups = classes === 0 ? [] : Object.entries(classGroups(others));
  const conditions = groups.map(([group, matrix]) => ({ group, matrix, norms: rowNorms(matrix) }));
  const counts = [squares, losses, ...conditions.map(({ norms }) => norms)].reduce<Tensor>(
    (all, values) => tf.logicalAnd(all, tf.isFinite(values)),
    tf.greater(inputs.present, 0),
  );
  // Differences of rounding may take a sum of products slightly below zero.
  const norms = tf.maximum(squares, leastSquare).sqrt() as Tensor;
  const factors = tf.minimum(1, tf.div(bounds.weights! * (1 - clipMargin), norms)) as Tensor;
  const sums = Object.fromEntries(
    Object.entries(weightShapes(config)).map(([name, shape]) => {
      const parts = (books.get(name) as Book[]).map((book) => weightedSum(book, factors, counts, shape));
      return [name, tf.addN(parts) as Tensor];
    }),
  );
  for (const { group, matrix, norms } of conditions) {
    const contributions = clippedFloats(matrix, norms, bounds[group as 'vectors' | 'bias']!);
    const kept = tf.where(counts.reshape([rows, 1]), contributions, tf.zerosLike(contributions)) as Tensor;
    sums[group] = classSums(kept, inputs.labels, classes);
  }
  return { sums, losses: tf.where(counts, losses, tf.zerosLike(losses)) };
}

/** Without clipping: one backward pass that knows nothing of examples. */
function plainGradient(config: DecoderConfig, classes: number, inputs: MicrobatchInputs): MicrobatchOutputs {
  const names = Object.keys(weightShapes(config));
  const losses = (...list: Tensor[]): Tensor => {
    const weights = Object.fromEntries(names.map((name, index) => [name, list[index] as Tensor]));
    return lossesOf(config, inputs, weights, { conditioning: conditioningOf(list.slice(names.length)) });
  };
  const own = [...names.map((name) => inputs.weights[name] as Tensor), ...ownClassRows(classes, inputs)];
  const rows = inputs.present.size;
  const { value, grads } = tf.valueAndGrads(losses as never)(own, tf.ones([rows]) as never);
  const sums = Object.fromEntries(names.map((name, index) => [name, grads[index] as Tensor]));
  const classRows = grads.slice(names.length) as Tensor[];
  const groups = classes === 0 ? [] : Object.entries(classGroups(classRows));
  for (const [group, matrix] of groups) sums[group] = classSums(matrix, inputs.labels, classes);
  return { sums, losses: value as Tensor };
}

/** Compiles the gradient of all weights over microbatches of `rows` examples with `time` predicted tokens. */
export function compileFullGradient(
  config: DecoderConfig,
  tuned: TunedShape & { kind: 'full' },
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
          ? plainGradient(config, tuned.classes, inputs)
          : clippedGradient(config, tuned.classes, clipping.bounds, inputs),
      example,
      { atOnce },
    );
  } finally {
    disposeTree(example);
  }
}
