/** @file Base weights with an adapter worked into them, so that decoding pays nothing for it. */

import type { DecoderConfig } from '../decoder/config.ts';
import type { Weights } from '../decoder/weights.ts';
import { loraPair, mergedMatrix } from '../tuning/apply.ts';
import { loraPlaces, type LoraShape } from '../tuning/parameters.ts';
import { tf, type Tensor } from '../tensorflow.ts';

/**
 * W + alpha / rank * B A for each target matrix (Hu et al. 2021). The other weights are the base's own tensors; the
 * caller disposes the `merged` ones.
 */
export function mergeAdapter(
  config: DecoderConfig,
  base: Weights,
  adapter: LoraShape,
  tensors: Weights,
): { weights: Weights; merged: Tensor[] } {
  const weights: Record<string, Tensor> = { ...base };
  const merged: Tensor[] = [];
  for (const { path } of loraPlaces(config, adapter)) {
    const name = `${path}.weight`;
    const sum = tf.tidy(() => mergedMatrix(base[name] as Tensor, loraPair(adapter, tensors, path)));
    weights[name] = sum;
    merged.push(sum);
  }
  return { weights, merged };
}
