/**
 * @file A decoder's passes. One definition of the blocks (`blocks.ts`) serves training, scoring and cached decoding; they
 * differ only in the attention that they hand it.
 *
 * All functions are pure and fit `compile`.
 */

import { tf, type Tensor } from '../tensorflow.ts';
import { partsOf, type Attention, type Frame, type Layers, type LinearHook } from './blocks.ts';
import { embeddingName, headDim, headName, type DecoderConfig } from './config.ts';
import { attend, linear, maskBias } from './layers.ts';
import { weight, type Weights } from './weights.ts';

/** What is added for the class of each row. */
export type Conditioning = {
  /** [batch, dim], added to the embedding at each position. */
  input: Tensor;
  /** [batch, dim], added to the final hidden state (after the last norm) at each position. */
  output: Tensor;
  /** [batch, vocab], added to the logits at each position. */
  bias: Tensor;
};

/** Layers that compute with the weights and do nothing else. */
export const plainLayers = (weights: Weights): Layers => ({
  embed: (name, ids) => tf.gather(weight(weights, name), ids as never),
  linear: (name, x) => linear(x, weight(weights, name)),
  gain: (name, x) => x.mul(weight(weights, name)),
  bias: (name, x) => x.add(weight(weights, name)),
});

export interface ForwardOptions {
  adapt?: LinearHook | undefined;
  conditioning?: Conditioning | undefined;
  /** [batch, length, dim]: embeddings in front of the first token, at positions 0 to length - 1; no class vector. */
  prompt?: Tensor | undefined;
  /** Instead of plain products with the weights. */
  layers?: Layers | undefined;
}

/** [batch * time, dim] -> the same, before the head. */
function blocks(frame: Frame, embedded: Tensor): Tensor {
  const parts = partsOf(frame);
  let x = parts.start(embedded);
  for (let layer = 0; layer < frame.config.layers; layer++) x = parts.block(layer, x);
  return parts.end(x);
}

/** Adds one vector a row [batch, width] at each of its positions. @param flat [batch * time, width] */
function addEach(flat: Tensor, vectors: Tensor): Tensor {
  const [positions, size] = flat.shape as [number, number];
  const batch = vectors.shape[0] as number;
  return flat
    .reshape([batch, positions / batch, size])
    .add(vectors.reshape([batch, 1, size]))
    .reshape([positions, size]);
}

/** Tokens [batch * n] int32 -> hidden states before the head [batch * n, dim]; n positions follow those of the prompt. */
function hiddenStates(frame: Frame, { conditioning, prompt }: ForwardOptions, tokens: Tensor): Tensor {
  const { config, layers, batch } = frame;
  const time = tokens.size / batch;
  let x = layers.embed(embeddingName(config), tokens);
  if (conditioning) x = addEach(x, conditioning.input);
  if (prompt) {
    const length = frame.time - time;
    const whole = tf.concat([prompt, x.reshape([batch, time, config.dim])], 1);
    const passed = blocks(frame, whole.reshape([batch * frame.time, config.dim]));
    x = passed
      .reshape([batch, frame.time, config.dim])
      .slice([0, length, 0], [batch, time, config.dim])
      .reshape([batch * time, config.dim]);
  } else x = blocks(frame, x);
  return conditioning ? addEach(x, conditioning.output) : x;
}

/** Tokens [batch * n] int32 -> logits [batch * n, vocab]. */
function run(frame: Frame, options: ForwardOptions, tokens: Tensor): Tensor {
  const { conditioning } = options;
  const logits = headLogits(frame, hiddenStates(frame, options, tokens));
  return conditioning ? addEach(logits, conditioning.bias) : logits;
}

/** @param hidden [positions, dim] @returns [positions, vocab] */
export const headLogits = ({ config, layers }: Pick<Frame, 'config' | 'layers'>, hidden: Tensor): Tensor =>
  layers.linear(config.tied ? embeddingName(config) : headName, hidden);

/** [batch, time, heads, headDim] -> [batch, kvHeads, group * time, headDim] */
function groupedQueries(queries: Tensor, kvHeads: number): Tensor {
  const [batch, time, heads, width] = queries.shape as [number, number, number, number];
  const group = heads / kvHeads;
  const apart = queries.reshape([batch, time, kvHeads, group, width]).transpose([0, 2, 3, 1, 4]);
  return apart.reshape([batch, kvHeads, group * time, width]);
}

/** Inverse of `groupedQueries`, to [batch, time, heads * headDim]. */
function ungrouped(mixed: Tensor, time: number, heads: number): Tensor {
  const [batch, kvHeads, , width] = mixed.shape as [number, number, number, number];
  const apart = mixed.reshape([batch, kvHeads, heads / kvHeads, time, width]).transpose([0, 3, 1, 2, 4]);
  return apart.reshape([batch, time, heads * width]);
}

/** Key and value heads to the front: [batch, kvHeads, time, headDim]. */
const headsFirst = (x: Tensor): Tensor => x.transpose([0, 2, 1, 3]);

/**
 * Logits at each position. Padding goes at the end of a row: later positions never change earlier ones.
 *
 * @param tokens [batch, time] int32, each in [0, vocab): checked by the caller, since XLA clamps what is outside.
 * @returns [batch * time, vocab]
 */
export function flatLogits(
  config: DecoderConfig,
  weights: Weights,
  tokens: Tensor,
  options: ForwardOptions = {},
): Tensor {
  const [batch, given] = tokens.shape as [number, number];
  const time = given + (options.prompt?.shape[1] ?? 0);
  const frame = causalFrame(config, weights, { batch, time }, options);
  return run(frame, options, tokens.reshape([batch * given]));
}

/**
 * Hidden states at each position, after the last norm and before the head.
 *
 * @param tokens [batch, time] int32, as `flatLogits` takes them
 * @returns [batch * time, dim]
 */
export function flatHidden(
  config: DecoderConfig,
  weights: Weights,
  tokens: Tensor,
  options: Pick<ForwardOptions, 'layers'> = {},
): Tensor {
  const [batch, time] = tokens.shape as [number, number];
  const frame = causalFrame(config, weights, { batch, time }, options);
  return hiddenStates(frame, {}, tokens.reshape([batch * time]));
}

/** All positions of a row at once, each of which sees those up to itself. */
function causalFrame(
  config: DecoderConfig,
  weights: Weights,
  { batch, time }: { batch: number; time: number },
  options: ForwardOptions,
): Frame {
  const steps = tf.range(0, time, 1, 'float32') as Tensor;
  const causal = maskBias(tf.lessEqual(steps.reshape([1, time]), steps.reshape([time, 1])));
  const bias = tf.tile(causal, [config.heads / config.kvHeads, 1]);
  const attention: Attention = (_layer, queries, keys, values) => {
    const mixed = attend(groupedQueries(queries, config.kvHeads), headsFirst(keys), headsFirst(values), bias);
    return ungrouped(mixed, time, config.heads);
  };
  const layers = options.layers ?? plainLayers(weights);
  const positions = steps.reshape([1, time]);
  return { config, layers, adapt: options.adapt, batch, time, positions, attention };
}

/**
 * Keys and values of a prompt, for a cache that begins with it.
 *
 * @param prompt [length, dim]
 * @returns a list with a tensor [1, kvHeads, length, headDim] for each layer, of each
 */
export function promptCache(config: DecoderConfig, weights: Weights, prompt: Tensor): DecodeCache {
  const keys: Tensor[] = [];
  const values: Tensor[] = [];
  const frame = causalFrame(config, weights, { batch: 1, time: prompt.shape[0] as number }, {});
  const attention: Attention = (layer, queries, newKeys, newValues) => {
    keys.push(headsFirst(newKeys));
    values.push(headsFirst(newValues));
    return frame.attention(layer, queries, newKeys, newValues);
  };
  blocks({ ...frame, attention }, prompt);
  return { keys, values };
}

/** As `flatLogits`, shaped [batch, time, vocab]. */
export function forward(config: DecoderConfig, weights: Weights, tokens: Tensor, options: ForwardOptions = {}): Tensor {
  const [batch, time] = tokens.shape as [number, number];
  return flatLogits(config, weights, tokens, options).reshape([batch, time, config.vocab]);
}

/** Keys and values of earlier positions, one tensor [batch, kvHeads, maxTime, headDim] a layer. */
export type DecodeCache = {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
};

/** A cache before the first token. @param maxTime most positions that will be decoded */
export function emptyCache(config: DecoderConfig, batch: number, maxTime: number): DecodeCache {
  const zeros = (): Tensor[] =>
    Array.from({ length: config.layers }, () => tf.zeros([batch, config.kvHeads, maxTime, headDim(config)]));
  return { keys: zeros(), values: zeros() };
}

/**
 * One token a row with an attention of the caller's, which keeps keys and values in its own way.
 *
 * @param tokens [batch] int32
 * @param positions [batch], from 0
 * @returns logits [batch, vocab]
 */
export function decodeWith(
  config: DecoderConfig,
  weights: Weights,
  tokens: Tensor,
  positions: Tensor,
  attention: Attention,
  options: ForwardOptions = {},
): Tensor {
  const batch = tokens.size;
  const layers = options.layers ?? plainLayers(weights);
  const each = positions.toFloat().reshape([batch, 1]);
  const frame: Frame = { config, layers, adapt: options.adapt, batch, time: 1, positions: each, attention };
  return run(frame, options, tokens);
}
