/** @file The blocks of both families: what is between the embedding and the output head. */

import { tf, type Tensor } from '../tensorflow.ts';
import {
  attentionNorm,
  feedForwardNorm,
  finalNorm,
  hasBias,
  headDim,
  linearPath,
  positionsName,
  type DecoderConfig,
  type Gpt2Config,
  type LinearName,
  type LlamaConfig,
} from './config.ts';
import { gelu, geluTanh, layerNorm, rmsNorm, swiglu } from './layers.ts';
import { rotaryTables, rotate } from './rotary.ts';

/** Where the decoder meets its weights, by their names: training may record what passes here. */
export interface Layers {
  /** Rows of a table: ids [rows] int32 -> [rows, dim]. */
  embed(name: string, ids: Tensor): Tensor;
  /** [rows, in] times the transpose of a matrix [out, in]. */
  linear(name: string, x: Tensor): Tensor;
  /** [rows, width] times a vector [width]. */
  gain(name: string, x: Tensor): Tensor;
  /** [rows, width] plus a vector [width]. */
  bias(name: string, x: Tensor): Tensor;
}

/**
 * Changes the output of a linear layer, for adapters.
 *
 * @param path of the layer, as in the names of its weights
 * @param x [rows, in], @param output [rows, out] of the frozen layer; returns [rows, out]
 */
export type LinearHook = (path: string, name: LinearName, x: Tensor, output: Tensor) => Tensor;

/**
 * [batch, time, heads, headDim] and keys, values [batch, time, kvHeads, headDim], with their positions ->
 * [batch, time, heads * headDim]
 */
export type Attention = (layer: number, queries: Tensor, keys: Tensor, values: Tensor) => Tensor;

/** One pass. */
export interface Frame {
  config: DecoderConfig;
  layers: Layers;
  adapt: LinearHook | undefined;
  batch: number;
  time: number;
  /** [1, time] or, for a single position of each row, [batch, 1]; float32. */
  positions: Tensor;
  attention: Attention;
}

type Parts = {
  /** Done once to the embeddings. */
  start(x: Tensor): Tensor;
  block(layer: number, x: Tensor): Tensor;
  /** Done to what the last block gives. */
  end(x: Tensor): Tensor;
};

/** A linear layer of a block, with its bias and adapter. */
function apply({ config, layers, adapt }: Frame, layer: number, name: LinearName, input: Tensor): Tensor {
  const path = linearPath(config, layer, name);
  const product = layers.linear(`${path}.weight`, input);
  const output = hasBias(config, name) ? layers.bias(`${path}.bias`, product) : product;
  return adapt ? adapt(path, name, input, output) : output;
}

/** [batch * time, count * headDim] -> [batch, time, count, headDim] */
const split = ({ config, batch, time }: Frame, flat: Tensor, count: number): Tensor =>
  flat.reshape([batch, time, count, headDim(config)]);

/** [batch, time, heads * headDim] -> [batch * time, heads * headDim] */
const flatten = ({ config, batch, time }: Frame, mixed: Tensor): Tensor =>
  mixed.reshape([batch * time, config.heads * headDim(config)]);

function llamaParts(config: LlamaConfig, frame: Frame): Parts {
  const { layers, positions, attention } = frame;
  const { heads, kvHeads, ropeTheta: theta, ropeScaling: scaling } = config;
  const rotary = rotaryTables(positions, { width: headDim(config), theta, scaling });
  const norm = (path: string, x: Tensor): Tensor => layers.gain(`${path}.weight`, rmsNorm(x, config.rmsEps));
  return {
    start: (x) => x,
    block(layer, x) {
      const linear = (name: LinearName, input: Tensor): Tensor => apply(frame, layer, name, input);
      const normed = norm(attentionNorm(config, layer), x);
      const queries = rotate(split(frame, linear('q', normed), heads), rotary);
      const keys = rotate(split(frame, linear('k', normed), kvHeads), rotary);
      const values = split(frame, linear('v', normed), kvHeads);
      const mixed = flatten(frame, attention(layer, queries, keys, values));
      const attended = x.add(linear('o', mixed)) as Tensor;
      const inner = norm(feedForwardNorm(config, layer), attended);
      return attended.add(linear('down', swiglu(linear('gate', inner), linear('up', inner))));
    },
    end: (x) => norm(finalNorm(config), x),
  };
}

function gpt2Parts(config: Gpt2Config, frame: Frame): Parts {
  const { layers, batch, time, positions, attention } = frame;
  const { dim, heads } = config;
  const activate = config.activation === 'gelu' ? gelu : geluTanh;
  const norm = (path: string, x: Tensor): Tensor =>
    layers.bias(`${path}.bias`, layers.gain(`${path}.weight`, layerNorm(x, config.normEps)));
  return {
    start(x) {
      const places = tf
        .zeros([batch, time])
        .add(positions)
        .reshape([batch * time]);
      return x.add(layers.embed(positionsName, tf.cast(places, 'int32')));
    },
    block(layer, x) {
      const linear = (name: LinearName, input: Tensor): Tensor => apply(frame, layer, name, input);
      const fused = linear('qkv', norm(attentionNorm(config, layer), x));
      const [queries, keys, values] = [0, 1, 2].map((part) =>
        split(frame, fused.slice([0, part * dim], [batch * time, dim]), heads),
      ) as [Tensor, Tensor, Tensor];
      const mixed = flatten(frame, attention(layer, queries, keys, values));
      const attended = x.add(linear('o', mixed)) as Tensor;
      const inner = norm(feedForwardNorm(config, layer), attended);
      return attended.add(linear('down', activate(linear('up', inner))));
    },
    end: (x) => norm(finalNorm(config), x),
  };
}

/** What the family of a decoder does in one pass. All take and give [batch * time, dim]. */
export function partsOf(frame: Frame): Parts {
  const { config } = frame;
  return config.family === 'llama' ? llamaParts(config, frame) : gpt2Parts(config, frame);
}
