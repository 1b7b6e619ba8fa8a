/**
 * @file Cached decoding of a fixed batch, a block of positions in one compiled call.
 *
 * All rows are at the same position. Inside a block, new keys and values stay beside the cache and attention sees both;
 * the cache is rewritten once a block instead of once a token, and one call from JavaScript serves the whole block.
 */

import { classConditioning } from '../adapter/apply.ts';
import { classBias, classInput, classOutput } from '../adapter/parameters.ts';
import { compile, type CompiledFunction } from '../compile/index.ts';
import { headDim, weightShapes, type DecoderConfig } from '../decoder/config.ts';
import type { Attention } from '../decoder/blocks.ts';
import { decodeWith, emptyCache, type DecodeCache } from '../decoder/forward.ts';
import { maskBias } from '../decoder/layers.ts';
import type { Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { bestTokens, drawTokens } from './sampling.ts';

export interface BlockDecoderOptions {
  /** Rows. */
  batch: number;
  /** Positions a call. */
  block: number;
  /** Positions in all; a multiple of `block`. */
  maxTime: number;
  /** Classes with vectors and an output bias; 0 for an unconditioned model. */
  classes: number;
  /** Most probable token instead of a drawn one. */
  greedy: boolean;
}

type BlockInputs = {
  weights: Record<string, Tensor>;
  /** Class tables under the adapter's names; empty without classes. */
  conditioning: Record<string, Tensor>;
  /** [batch] int32. */
  labels: Tensor;
  keys: Tensor[];
  values: Tensor[];
  /** Scalar: position of the block's first token. */
  start: Tensor;
  /** [batch] int32: token at `start`. */
  token: Tensor;
  /** [batch, block] int32: the token that must follow each position, or -1 to draw it. */
  forced: Tensor;
  /** [batch, block] */
  uniforms: Tensor;
  /** Scalar. */
  inverseTemperature: Tensor;
};

type BlockOutputs = {
  /** [batch, block] int32: the tokens that follow the block's positions. */
  tokens: Tensor;
  keys: Tensor[];
  values: Tensor[];
};

/** Keys and values of a block's positions so far, one list a layer, each [batch, kvHeads, 1, headDim]. */
interface Recent {
  keys: Tensor[][];
  values: Tensor[][];
}

const joined = (parts: Tensor[]): Tensor => (parts.length === 1 ? (parts[0] as Tensor) : tf.concat(parts, 2));

/** Attention over the cache before the block and the block's own positions up to the present one. */
function blockAttention(config: DecoderConfig, cache: DecodeCache, pastBias: Tensor, recent: Recent): Attention {
  const { heads, kvHeads } = config;
  const width = headDim(config);
  return (layer, queries, keys, values) => {
    const batch = queries.shape[0] as number;
    const recentKeys = recent.keys[layer] as Tensor[];
    const recentValues = recent.values[layer] as Tensor[];
    recentKeys.push(keys.reshape([batch, kvHeads, 1, width]));
    recentValues.push(values.reshape([batch, kvHeads, 1, width]));
    const grouped = queries.reshape([batch, kvHeads, heads / kvHeads, width]).mul(1 / Math.sqrt(width));
    const past = tf.matMul(grouped, cache.keys[layer] as Tensor, false, true).add(pastBias);
    const now = tf.matMul(grouped, joined(recentKeys), false, true);
    const shares = tf.softmax(tf.concat([past, now], 3));
    const pastShares = shares.slice([0, 0, 0, 0], past.shape as [number, number, number, number]);
    const nowShares = shares.slice([0, 0, 0, past.shape[3] as number], now.shape as [number, number, number, number]);
    const fromPast = tf.matMul(pastShares, cache.values[layer] as Tensor);
    return fromPast.add(tf.matMul(nowShares, joined(recentValues))).reshape([batch, 1, heads * width]);
  };
}

function decodeBlock(config: DecoderConfig, options: BlockDecoderOptions, inputs: BlockInputs): BlockOutputs {
  const { batch, block, maxTime, classes, greedy } = options;
  const slots = tf.range(0, maxTime, 1, 'float32').reshape([1, 1, maxTime, 1]);
  const pastBias = maskBias(tf.less(slots, inputs.start)).reshape([1, 1, 1, maxTime]);
  const recent: Recent = { keys: inputs.keys.map(() => []), values: inputs.values.map(() => []) };
  const attention = blockAttention(config, inputs, pastBias, recent);
  const conditioning = classes > 0 ? classConditioning(inputs.conditioning, inputs.labels) : undefined;
  const column = (matrix: Tensor, at: number): Tensor => matrix.slice([0, at], [batch, 1]).reshape([batch]);
  const tokens: Tensor[] = [];
  let token = inputs.token;
  for (let at = 0; at < block; at++) {
    const positions = tf.fill([batch], at).add(inputs.start) as Tensor;
    const logits = decodeWith(config, inputs.weights, token, positions, attention, { conditioning });
    const drawn = greedy
      ? bestTokens(logits)
      : drawTokens(logits, column(inputs.uniforms, at), inputs.inverseTemperature);
    const forced = column(inputs.forced, at);
    token = tf.where(tf.greaterEqual(forced, tf.zerosLike(forced)), forced, drawn) as Tensor;
    tokens.push(token.reshape([batch, 1]));
  }
  const written = Array.from({ length: block }, (_, at) => tf.cast(tf.equal(slots, inputs.start.add(at)), 'float32'));
  const kept = tf.sub(1, tf.addN(written));
  const store = (old: Tensor, layer: number, parts: Tensor[][]): Tensor =>
    (parts[layer] as Tensor[]).reduce(
      (sum, part, at) => sum.add(part.mul(written[at] as Tensor)),
      old.mul(kept) as Tensor,
    );
  return {
    tokens: tf.concat(tokens, 1),
    keys: inputs.keys.map((old, layer) => store(old, layer, recent.keys)),
    values: inputs.values.map((old, layer) => store(old, layer, recent.values)),
  };
}

export interface DecodeRequest {
  /** [batch], each in [0, classes); ignored without classes. */
  labels: Int32Array;
  /** First token of each row, [batch]. */
  first: Int32Array;
  /** [batch, maxTime]: the token that must follow each position, or -1. */
  forced: Int32Array;
  /** [batch, maxTime], in [0, 1). Ignored when greedy. */
  uniforms: Float32Array;
  inverseTemperature: number;
}

export interface BlockDecoder {
  /**
   * Decodes block by block. `onBlock` gets the tokens that follow the block's positions, [batch, block], and the first of
   * those positions; decoding ends when it returns false or after `maxTime` positions.
   */
  decode(
    request: DecodeRequest,
    onBlock: (tokens: Int32Array, start: number) => boolean | Promise<boolean>,
  ): Promise<void>;
  dispose(): void;
}

/**
 * Compiles decoding for one model. It keeps the weights and tables that it is given and disposes neither.
 *
 * @param weights under Hugging Face names, adapters merged in
 * @param conditioning class tables (`parameters.ts` of the adapter), empty without classes
 */
export function compileBlockDecoder(
  config: DecoderConfig,
  weights: Weights,
  conditioning: Weights,
  options: BlockDecoderOptions,
): BlockDecoder {
  const { batch, block, maxTime, classes } = options;
  if (maxTime % block !== 0) throw new RangeError('maxTime is a multiple of block');
  const known = Object.fromEntries(Object.keys(weightShapes(config)).map((name) => [name, weights[name] as Tensor]));
  const tables = classes === 0 ? [] : [classInput, classOutput, classBias];
  const shared = {
    weights: known,
    conditioning: Object.fromEntries(tables.map((name) => [name, conditioning[name] as Tensor])),
  };
  const scalar = (value: number): Tensor => tf.scalar(value);
  const matrix = (values: Int32Array | Float32Array, dtype: 'int32' | 'float32'): Tensor =>
    tf.tensor(values, [batch, values.length / batch], dtype);
  const example = {
    labels: tf.zeros([batch], 'int32'),
    token: tf.zeros([batch], 'int32'),
    forced: tf.zeros([batch, block], 'int32'),
    uniforms: tf.zeros([batch, block]),
    start: scalar(0),
    inverseTemperature: scalar(1),
    ...emptyCache(config, batch, maxTime),
  };
  const run: CompiledFunction<BlockInputs, BlockOutputs> = compile(
    (inputs: BlockInputs) => decodeBlock(config, options, inputs),
    { ...shared, ...example } as unknown as BlockInputs,
  );
  tf.dispose(example as never);
  /** Columns [from, from + block) of a row-major [batch, maxTime] array. */
  const columns = <A extends Int32Array | Float32Array>(values: A, from: number): A => {
    const out = values.slice(0, batch * block) as A;
    for (let row = 0; row < batch; row++) {
      const piece = values.subarray(row * maxTime + from, row * maxTime + from + block);
      out.set(piece as never, row * block);
    }
    return out;
  };
  return {
    async decode(request, onBlock) {
      const labels = tf.tensor(request.labels, [batch], 'int32') as Tensor;
      const inverseTemperature = scalar(request.inverseTemperature);
      let cache = emptyCache(config, batch, maxTime);
      let token = request.first;
      try {
        for (let start = 0; start < maxTime; start += block) {
          const given = {
            token: tf.tensor(token, [batch], 'int32') as Tensor,
            start: scalar(start),
            forced: matrix(columns(request.forced, start), 'int32'),
            uniforms: matrix(columns(request.uniforms, start), 'float32'),
          };
          const { keys, values } = cache as { keys: Tensor[]; values: Tensor[] };
          const output = run({ ...shared, ...given, labels, inverseTemperature, keys, values });
          const tokens = output.tokens.dataSync() as Int32Array;
          tf.dispose([...Object.values(given), ...keys, ...values, output.tokens]);
          cache = { keys: output.keys, values: output.values };
          token = Int32Array.from({ length: batch }, (_, row) => tokens[row * block + block - 1]!);
          if (!(await onBlock(tokens, start))) break;
        }
      } finally {
        tf.dispose([labels, inverseTemperature, ...cache.keys, ...cache.values]);
      }
    },
    dispose: () => run.dispose(),
  };
}
