/** @file What the embeddings of a prompt start as (Lester et al. 2021, section 3.2). */

import type { KeyedStream } from '../../privacy/noise.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { embeddingName, type DecoderConfig } from '../decoder/config.ts';
import type { Weights } from '../decoder/weights.ts';

export interface PromptStart {
  /** Positions. */
  length: number;
  /** Token ids, repeated or cut to the length; tokens drawn from the vocabulary; or normal numbers. */
  init: Int32Array | 'vocabulary' | 'random';
  /** Tokens that are drawn from: [0, vocabulary). */
  vocabulary: number;
}

/**
 * [length * dim] embeddings. Normal numbers have the root mean square of the model's embeddings.
 *
 * @throws EpsilonflowError STEP_FAILED when a text to start from has no tokens
 */
export function initialPrompt(
  config: DecoderConfig,
  weights: Weights,
  { length, init, vocabulary }: PromptStart,
  stream: KeyedStream,
): Float32Array {
  const { dim } = config;
  const values = new Float32Array(length * dim);
  const table = weights[embeddingName(config)]!.dataSync() as Float32Array;
  if (init === 'random') {
    const square = table.reduce((sum, value) => sum + value * value, 0) / table.length;
    stream.fillGaussian(values, Math.sqrt(square));
    return values;
  }
  if (init.length === 0) {
    throw new EpsilonflowError('STEP_FAILED', 'The text that the prompt starts from has no tokens.', {
      hint: 'Give `init: { text: ... }` some words, or use `init: vocabulary`.',
    });
  }
  for (let at = 0; at < length; at++) {
    const id = init === 'vocabulary' ? Math.floor(stream.uniform() * vocabulary) : init[at % init.length]!;
    values.set(table.subarray(id * dim, (id + 1) * dim), at * dim);
  }
  return values;
}
