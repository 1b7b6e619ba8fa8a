/** @file Drawing texts of fixed length from a decoder. */

import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { compileBlockDecoder } from '../../learning/decoding/block-decoder.ts';
import type { Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { localArm, type Arm } from './turns.ts';

/** Positions in one call, as in the generate step. */
const block = 4;

export interface SamplingWork {
  texts: number;
  tokens: number;
  /** First token of each text. */
  first: number;
}

/** All texts in one batch, none of which ends early. */
export function samplingArm(
  name: string,
  { config, weights }: { config: DecoderConfig; weights: Record<string, Tensor> },
  { texts, tokens, first }: SamplingWork,
): Arm & { dispose(): void } {
  const shape = { batch: texts, block, maxTime: tokens, classes: 0, greedy: false };
  const decoder = compileBlockDecoder(config, weights, {}, shape);
  let run = 0;
  const sample = async (): Promise<void> => {
    const stream = seededStream(run, 'bench sampling');
    let drawn = 0;
    await decoder.decode(
      {
        labels: new Int32Array(texts),
        first: new Int32Array(texts).fill(first),
        forced: new Int32Array(texts * tokens).fill(-1),
        uniforms: Float32Array.from({ length: texts * tokens }, () => stream.uniform()),
        inverseTemperature: 1,
      },
      (ids) => {
        drawn += ids.length;
        return true;
      },
    );
    if (drawn !== texts * tokens) throw new Error(`${drawn} tokens were drawn`);
    run += 1;
  };
  return { ...localArm(name, sample), dispose: () => decoder.dispose() };
}
