/** @file Drawing texts of fixed length from a decoder. */

import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { compileBlockDecoder, type BlockDecoderOptions } from '../../learning/decoding/block-decoder.ts';
import type { Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { localArm, type Arm } from './turns.ts';

export interface SamplingWork {
  texts: number;
  tokens: number;
  /** First token of each text. */
  first: number;
}

/** Calls side by side and positions in one. */
export type SamplingLayout = Pick<BlockDecoderOptions, 'block'> & { calls: number };

/** All texts in one batch, none of which ends early. */
export function samplingArm(
  name: string,
  { config, weights }: { config: DecoderConfig; weights: Record<string, Tensor> },
  { texts, tokens, first }: SamplingWork,
  { block, calls }: SamplingLayout,
): Arm & { dispose(): void } {
  const model = { config, weights, conditioning: {}, prompt: null };
  const rules = { temperature: 1, topK: null, topP: 1, repetitionPenalty: 1 };
  const decoder = compileBlockDecoder(model, {
    batch: texts / calls,
    calls,
    block,
    maxTime: tokens,
    rules,
    banned: [],
  });
  let run = 0;
  const sample = (): void => {
    const stream = seededStream(run, 'bench sampling');
    let next = new Int32Array(texts).fill(first);
    for (let start = 0; start < tokens; start += block) {
      const ids = decoder.next({
        live: Array.from(next, () => true),
        labels: new Int32Array(texts),
        starts: new Int32Array(texts).fill(start),
        tokens: next,
        forced: new Int32Array(texts * block).fill(-1),
        uniforms: Float32Array.from({ length: texts * block }, () => stream.uniform()),
      });
      next = Int32Array.from(next, (_, row) => ids[row * block + block - 1]!);
    }
    run += 1;
  };
  return { ...localArm(name, sample), dispose: () => decoder.dispose() };
}
