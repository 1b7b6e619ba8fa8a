/** @file The layers of a model with LoRA, whose backward pass hands out each example's gradient of the low-rank matrices. */

import type { Layers } from '../decoder/blocks.ts';
import type { ModelConfig } from '../decoder/config.ts';
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

/** Layers with the updates worked into the matrices, as in decoding, where a copy takes no more memory than the input. */
export function loraLayers(config: ModelConfig, weights: Weights, lora: OwnLora): Layers {
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
  const pair = loraPair(lora, lora.tensors, path);
  const isMerged = matrix.size <= x.size;
  const shared = isMerged ? mergedMatrix(matrix, pair) : matrix;
  const [ownDown, ownUp] = [lora.ownOf(loraName(path, 'A')), lora.ownOf(loraName(path, 'B'))];
  const rows = ownDown.shape[0] as number;
  const byExample = (flat: Tensor): Tensor => flat.reshape([rows, flat.shape[0]! / rows, flat.shape[1]!]);
  return withOwnGradient([x, ownDown, ownUp], {
    forward(x, _ownDown, _ownUp) {
      const product = linear(x, shared);
      const value = isMerged ? product : (product.add(linear(linear(x, pair.down), pair.up)) as Tensor);
      return { value, saved: [x, shared, pair.up, pair.down] };
    },
    backward(dy, [x, shared, up, down]) {
      const [inner, innerGradient] = [linear(x, down), tf.matMul(dy, up)];
      const product = tf.matMul(dy, shared);
      return [
        isMerged ? product : product.add(tf.matMul(innerGradient, down)),
        tf.matMul(byExample(innerGradient), byExample(x), true, false),
        tf.matMul(byExample(inner), byExample(dy), true, false).mul(lora.alpha / lora.rank),
      ];
    },
  });
}
