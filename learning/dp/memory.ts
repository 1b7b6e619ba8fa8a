/** @file How many examples of a microbatch fit into memory: an estimate, on the large side, from the model's shape. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { sizeOf, trainedParameters, type TunedShape } from '../tuning/parameters.ts';
import { linearNames, linearShape, parameterCount, type ModelConfig } from '../decoder/config.ts';
import { bucketLengths, microbatchTokens, type MicrobatchShape } from './sequences.ts';

const bytesOfFloat = 4;

/** What Node, TensorFlow and compiled programs take by themselves. */
const baseBytes = 700 * 2 ** 20;

const numberOfTrained = (config: ModelConfig, tuned: TunedShape): number =>
  trainedParameters(config, tuned).reduce((sum, parameter) => sum + sizeOf(parameter), 0);

/** Bytes that don't depend on the microbatch: weights, what is trained, its optimiser, and sums in doubles. */
function fixedBytes(config: ModelConfig, tuned: TunedShape): number {
  const trained = numberOfTrained(config, tuned);
  // Base weights that are trained are freed once their values are copied.
  const frozen = tuned.kind === 'full' ? 0 : parameterCount(config);
  // On the host initial values, values, both moments, and what reading the model left to the garbage collector; values,
  // sums and a reading of them on the device; doubles of sums.
  return baseBytes + bytesOfFloat * (frozen + trained * (5 + 3 + 2));
}

/** Bytes of the sums of each further microbatch that is computed at the same time. */
const sumsBytes = (config: ModelConfig, tuned: TunedShape): number => bytesOfFloat * numberOfTrained(config, tuned);

/**
 * Bytes of one example while its gradient is computed: what the backward pass reads again of each layer, logits and their
 * gradient, and what is made for the example itself.
 */
function exampleBytes(config: ModelConfig, tuned: TunedShape, time: number): number {
  const { dim, hidden, heads, layers, vocab } = config;
  const positions = time + (tuned.kind === 'prompt' ? tuned.length : 0);
  // Residual, norms, queries, keys, values and mixed values; gate, up and their product; scores and their softmax.
  const kept = layers * (16 * dim + 6 * hidden + 3 * heads * positions);
  const logits = tuned.head ? 0 : 4 * vocab;
  const linears = linearNames(config).reduce((sum, name) => {
    const [outputs, inputs] = linearShape(config, name);
    return sum + outputs + inputs;
  }, 0);
  // Training of all weights keeps inputs and output gradients of each matrix until the norms are known.
  const books = tuned.kind === 'full' ? 2 * (layers * linears + dim + vocab) : 0;
  const own = trainedParameters(config, tuned)
    .filter(({ group }) => group !== 'weights')
    .reduce(
      (sum, { group, shape }) => sum + (group === 'vectors' || group === 'bias' ? shape[1]! : sizeOf({ shape })),
      0,
    );
  return bytesOfFloat * (positions * (kept + books) + time * logits + 3 * own);
}

const shown = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** Microbatches that fit side by side where rows are not yet down to one: a core is busy with one, about. */
const cores = 2;

/**
 * The shape of each bucket: as many examples as keep a core busy, fewer where two microbatches would not fit, or where no
 * two do, one. Recorded in checkpoints, since sums depend on it in their last bits.
 *
 * @param memory bytes that the process may take
 * @throws EpsilonflowError MODEL_UNFIT when not even one of the longest examples fits
 */
export function microbatchShapes(
  config: ModelConfig,
  tuned: TunedShape,
  { sequence, memory }: { sequence: number; memory: number },
): MicrobatchShape[] {
  const fixed = fixedBytes(config, tuned);
  const sums = sumsBytes(config, tuned);
  return bucketLengths(sequence).map((time) => {
    const each = exampleBytes(config, tuned, time);
    const fitting = Math.floor((memory - fixed) / each);
    if (fitting < 1) {
      throw new EpsilonflowError(
        'MODEL_UNFIT',
        `An example of ${time} tokens takes about ${shown(fixed + each)} of memory to train on; ${shown(memory)} are allowed.`,
        { hint: 'Raise `memory` of the finetune step, lower its `sequence`, or use a smaller model.' },
      );
    }
    const sideBySide = Math.floor((memory - fixed - (cores - 1) * sums) / each / cores);
    const rows = sideBySide >= 1 ? sideBySide : fitting;
    return { time, rows: Math.max(1, Math.min(rows, Math.floor(microbatchTokens / time))) };
  });
}

/** How many microbatches of any shape of a layout fit into memory side by side, up to `most`. */
export function microbatchesAtOnce(
  config: ModelConfig,
  tuned: TunedShape,
  layout: readonly MicrobatchShape[],
  { memory, most }: { memory: number; most: number },
): number {
  const sums = sumsBytes(config, tuned);
  // Those of one microbatch are counted as fixed.
  const free = memory - fixedBytes(config, tuned) + sums;
  const fitting = layout.map(({ rows, time }) => Math.floor(free / (rows * exampleBytes(config, tuned, time) + sums)));
  return Math.max(1, Math.min(most, ...fitting));
}

/** Whether microbatches of `layout` take no more memory than those of `allowed`, and are of the same lengths. */
export const isWithin = (layout: readonly MicrobatchShape[], allowed: readonly MicrobatchShape[]): boolean =>
  layout.length === allowed.length &&
  layout.every(({ time, rows }, index) => time === allowed[index]!.time && rows <= allowed[index]!.rows);

/** Bytes of `512MiB` or `4GiB`. */
export function bytesOf(memory: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(MiB|GiB)$/.exec(memory) as unknown as [string, string, string];
  return Number(amount) * (unit === 'GiB' ? 2 ** 30 : 2 ** 20);
}
