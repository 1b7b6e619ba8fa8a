/** @file Base weights with an adapter worked into them, so that decoding pays nothing for it. */

import { linearPath, type DecoderConfig } from '../decoder/config.ts';
import type { Weights } from '../decoder/weights.ts';
import { loraName, type LoraShape } from '../tuning/parameters.ts';
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
  for (let layer = 0; layer < config.layers; layer++) {
    for (const target of adapter.targets) {
      const path = linearPath(config, layer, target);
      const name = `${path}.weight`;
      const sum = tf.tidy(() => {
        const up = tensors[loraName(path, 'B')] as Tensor;
        const down = tensors[loraName(path, 'A')] as Tensor;
        return (base[name] as Tensor).add(tf.matMul(up, down).mul(adapter.alpha / adapter.rank)) as Tensor;
      });
      weights[name] = sum;
      merged.push(sum);
    }
  }
  return { weights, merged };
}
