/** @file The layers of a decoder with LoRA, whose backward pass hands out each example's gradient of the low-rank matrices. */

import type { Layers } from '../decoder/blocks.ts';
import type { DecoderConfig } from '../decoder/config.ts';
import { plainLayers } from '../decoder/forward.ts';
import { linear } from '../decoder/layers.ts';
import { withOwnGradient } from '../decoder/own-gradient.ts';
import { weight, type Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { loraPair, mergedMatrix, type AdapterTensors } from '../tuning/apply.ts';
import { loraName, loraPlaces, type LoraShape } from '../tuning/parameters.ts';

export interface OwnLora extends LoraShape {
  tensors: AdapterTensors;
  /**
   * Stand for the examples' own matrices and are never read; their "gradients" are those of the examples: [rows, rank, in]
   * of A and, transposed, [rows, rank, out] of B.
   */
  ownOf(name: string): Tensor;
}

/**
 * Layers with the updates worked into the matrices, as in decoding: an example's own gradient is all that is made of the
 * low-rank products.
 */
export function loraLayers(config: DecoderConfig, weights: Weights, lora: OwnLora): Layers {
  const plain = plainLayers(weights);
  const paths = new Map(loraPlaces(config, lora).map(({ path }) => [`${path}.weight`, path]));
  return {
    ...plain,
    linear(name, x) {
      const path = paths.get(name);
      return path === undefined ? plain.linear(name, x) : adaptedLinear(weight(weights, name), path, lora, x);
    },
  };
}

function adaptedLinear(matrix: Tensor, path: string, lora: OwnLora, x: Tensor): Tensor {
  const { up, down } = loraPair(lora, lora.tensors, path);
  const merged = mergedMatrix(matrix, { up, down });
  const [ownDown, ownUp] = [lora.ownOf(loraName(path, 'A')), lora.ownOf(loraName(path, 'B'))];
  const rows = ownDown.shape[0] as number;
  const byExample = (flat: Tensor): Tensor => flat.reshape([rows, flat.shape[0]! / rows, flat.shape[1]!]);
  return withOwnGradient([x, ownDown, ownUp], {
    forward: (x, _ownDown, _ownUp) => ({ value: linear(x, merged), saved: [x, merged, up, down] }),
    backward(dy, [x, merged, up, down]) {
      const [inner, innerGradient] = [linear(x, down), tf.matMul(dy, up)];
      return [
        tf.matMul(dy, merged),
        tf.matMul(byExample(innerGradient), byExample(x), true, false),
        tf.matMul(byExample(inner), byExample(dy), true, false).mul(lora.alpha / lora.rank),
      ];
    },
  });
}
