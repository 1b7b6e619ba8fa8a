/**
 * @file The encoder of BERT (Devlin et al. 2018, arXiv:1810.04805) and RoBERTa (Liu et al. 2019, arXiv:1907.11692):
 * attention to both sides, LayerNorm after each addition. Pure, fit for `compile`.
 */

import type { Layers } from '../decoder/blocks.ts';
import { plainLayers } from '../decoder/forward.ts';
import { attend, gelu, geluTanh, layerNorm, maskBias } from '../decoder/layers.ts';
import type { Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { embeddingNorm, layerPath, positionTable, segmentTable, wordTable, type EncoderConfig } from './config.ts';

/**
 * Hidden states of the last layer, before any pooling.
 *
 * @param tokens [batch, time] int32, each in [0, vocab) and padded at the end: checked by the caller, since XLA clamps
 *   what is outside
 * @param present [batch, time] float32: 1 for tokens, 0 for padding, which no token attends to
 * @param layers instead of plain products with the weights
 * @returns [batch, time, dim]; of padding it means nothing
 */
export function encode(
  config: EncoderConfig,
  weights: Weights,
  tokens: Tensor,
  present: Tensor,
  layers: Layers = plainLayers(weights),
): Tensor {
  const [batch, time] = tokens.shape as [number, number];
  const { dim, heads } = config;
  const activate = config.activation === 'gelu' ? gelu : geluTanh;
  const norm = (path: string, x: Tensor): Tensor =>
    layers.bias(`${path}.bias`, layers.gain(`${path}.weight`, layerNorm(x, config.normEps)));
  const linear = (path: string, x: Tensor): Tensor => layers.bias(`${path}.bias`, layers.linear(`${path}.weight`, x));
  const split = (flat: Tensor): Tensor => flat.reshape([batch, time, heads, dim / heads]).transpose([0, 2, 1, 3]);
  const bias = maskBias(tf.greater(present, 0)).reshape([batch, 1, 1, time]);

  const steps = tf.range(0, time, 1, 'int32').add(tf.scalar(config.firstPosition, 'int32')) as Tensor;
  const places = tf.tile(steps.reshape([1, time]), [batch, 1]).reshape([batch * time]);
  const embedded = [
    layers.embed(wordTable, tokens.reshape([batch * time])),
    layers.embed(positionTable, places),
    layers.embed(segmentTable, tf.zeros([batch * time], 'int32')),
  ];
  let x = norm(embeddingNorm, tf.addN(embedded));
  for (let layer = 0; layer < config.layers; layer++) {
    const at = (module: string): string => layerPath(layer, module);
    const [queries, keys, values] = ['query', 'key', 'value'].map((part) =>
      split(linear(at(`attention.self.${part}`), x)),
    ) as [Tensor, Tensor, Tensor];
    const mixed = attend(queries, keys, values, bias)
      .transpose([0, 2, 1, 3])
      .reshape([batch * time, dim]);
    x = norm(at('attention.output.LayerNorm'), x.add(linear(at('attention.output.dense'), mixed)));
    const inner = activate(linear(at('intermediate.dense'), x));
    x = norm(at('output.LayerNorm'), x.add(linear(at('output.dense'), inner)));
  }
  return x.reshape([batch, time, dim]);
}
