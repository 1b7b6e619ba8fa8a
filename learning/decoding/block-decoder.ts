/**
 * @file Cached decoding of a fixed number of rows, a block of positions in one compiled call, or several side by side.
 *
 * Rows are at positions of their own, so that one that has ended makes room for another. Inside a block, new keys and
 * values stay beside the cache and attention sees both; the cache is rewritten once a block instead of once a token, and
 * one call from JavaScript serves the whole block.
 */

import { classConditioning } from '../tuning/apply.ts';
import { classBias, classInput, classOutput } from '../tuning/parameters.ts';
import { compile, disposeTree, type CompiledFunction } from '../compile/index.ts';
import { headDim, weightShapes, type DecoderConfig } from '../decoder/config.ts';
import type { Attention } from '../decoder/blocks.ts';
import { decodeWith, emptyCache, promptCache, type DecodeCache } from '../decoder/forward.ts';
import type { Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import { chooseTokens, type SamplingRules } from './sampling.ts';

/** What decodes. */
export interface DecodedModel {
  config: DecoderConfig;
  /** Under Hugging Face names, adapters merged in. */
  weights: Weights;
  /** Class tables (`parameters.ts` of the adapter); empty for an unconditioned model. */
  conditioning: Weights;
  /** [length, dim]: embeddings in front of each row; null without a prompt. */
  prompt: Tensor | null;
}

export interface BlockDecoderOptions {
  /** Rows of a call. */
  batch: number;
  /** Calls side by side, of `batch` rows each. Default 1. */
  calls?: number;
  /** Positions a call. */
  block: number;
  /** Most positions of a row, those of the prompt not counted. */
  maxTime: number;
  rules: SamplingRules;
  /** Tokens that are never drawn. */
  banned: readonly number[];
}

type BlockInputs = {
  weights: Record<string, Tensor>;
  conditioning: Record<string, Tensor>;
  /** [1, vocab]: added to all logits; empty if no token is banned. */
  ban: Tensor[];
  /** [batch] int32. */
  labels: Tensor;
  keys: Tensor[];
  values: Tensor[];
  /** [batch, vocab]: which tokens the row's text holds; empty without a repetition penalty. */
  seen: Tensor[];
  /** [batch]: position of the block's first token, from 0 after the prompt. */
  starts: Tensor;
  /** [batch] int32: token at that position. */
  token: Tensor;
  /** [batch, block] int32: the token that must follow each position, or -1 to draw it. */
  forced: Tensor;
  /** [batch, block] */
  uniforms: Tensor;
};

type BlockOutputs = {
  /** [batch, block] int32: the tokens that follow the block's positions. */
  tokens: Tensor;
  keys: Tensor[];
  values: Tensor[];
  seen: Tensor[];
};

/** Keys and values of a block's positions so far, one list a layer, each [batch, kvHeads, 1, headDim]. */
interface Recent {
  keys: Tensor[][];
  values: Tensor[][];
}

/** Score of what a position does not see: its share is zero in float32. */
const unseen = -1e9;

/** Values as they are kept: what has no share must be finite to add nothing. */
const finite = (values: Tensor): Tensor =>
  tf.where(tf.less(values.abs(), 1e38), values, tf.zerosLike(values)) as Tensor;

const joined = (parts: Tensor[]): Tensor => (parts.length === 1 ? (parts[0] as Tensor) : tf.concat(parts, 2));

/** Attention over the cache before the block and the block's own positions up to the present one. */
function blockAttention(config: DecoderConfig, cache: DecodeCache, isPast: Tensor, recent: Recent): Attention {
  const { heads, kvHeads } = config;
  const width = headDim(config);
  return (layer, queries, keys, values) => {
    const batch = queries.shape[0] as number;
    const recentKeys = recent.keys[layer] as Tensor[];
    const recentValues = recent.values[layer] as Tensor[];
    recentKeys.push(keys.reshape([batch, kvHeads, 1, width]));
    recentValues.push(values.reshape([batch, kvHeads, 1, width]));
    const grouped = queries.reshape([batch, kvHeads, heads / kvHeads, width]).mul(1 / Math.sqrt(width));
    // Chosen, not added: a sum with what an earlier row left may be anything.
    const scores = tf.matMul(grouped, cache.keys[layer] as Tensor, false, true);
    const past = tf.where(isPast, scores, tf.fill(scores.shape, unseen));
    const now = tf.matMul(grouped, joined(recentKeys), false, true);
    const shares = tf.softmax(tf.concat([past, now], 3));
    const pastShares = shares.slice([0, 0, 0, 0], past.shape as [number, number, number, number]);
    const nowShares = shares.slice([0, 0, 0, past.shape[3] as number], now.shape as [number, number, number, number]);
    const fromPast = tf.matMul(pastShares, cache.values[layer] as Tensor);
    return fromPast.add(tf.matMul(nowShares, joined(recentValues))).reshape([batch, 1, heads * width]);
  };
}

const promptLength = ({ prompt }: Pick<DecodedModel, 'prompt'>): number => prompt?.shape[0] ?? 0;

function decodeBlock(model: DecodedModel, options: BlockDecoderOptions, inputs: BlockInputs): BlockOutputs {
  const { config } = model;
  const { batch, block, rules } = options;
  const length = promptLength(model);
  const slotCount = length + options.maxTime;
  const slots = tf.range(0, slotCount, 1, 'float32');
  const starts = inputs.starts.add(length);
  // What an earlier row left at later positions is never seen.
  const past = tf.less(slots.reshape([1, slotCount]), starts.reshape([batch, 1]));
  const isPast = past.reshape([batch, 1, 1, slotCount]) as Tensor;
  const recent: Recent = { keys: inputs.keys.map(() => []), values: inputs.values.map(() => []) };
  const attention = blockAttention(config, inputs, isPast, recent);
  const isConditioned = Object.keys(inputs.conditioning).length > 0;
  const conditioning = isConditioned ? classConditioning(inputs.conditioning, inputs.labels) : undefined;
  const column = (matrix: Tensor, at: number): Tensor => matrix.slice([0, at], [batch, 1]).reshape([batch]);
  const oneHot = (ids: Tensor): Tensor => tf.oneHot(ids as never, config.vocab, 1, 0, 'float32');
  const begun = tf.cast(tf.greater(inputs.starts, 0), 'float32').reshape([batch, 1]);
  let seen = inputs.seen[0]?.mul(begun) as Tensor | undefined;
  const tokens: Tensor[] = [];
  let token = inputs.token;
  for (let at = 0; at < block; at++) {
    const logits = decodeWith(config, inputs.weights, token, starts.add(at), attention, { conditioning });
    const allowed = inputs.ban.reduce((sum, bias) => sum.add(bias), logits);
    const drawn = chooseTokens(allowed, rules, column(inputs.uniforms, at), seen ?? null);
    const forced = column(inputs.forced, at);
    const isForced = tf.greaterEqual(forced, tf.zerosLike(forced));
    token = tf.where(isForced, forced, drawn) as Tensor;
    // A class in front of a text is not part of it.
    if (seen) seen = tf.where(isForced.reshape([batch, 1]), seen, tf.maximum(seen, oneHot(drawn)));
    tokens.push(token.reshape([batch, 1]));
  }
  const slot = slots.reshape([1, 1, slotCount, 1]);
  const written = Array.from({ length: block }, (_, at) =>
    tf.cast(tf.equal(slot, starts.add(at).reshape([batch, 1, 1, 1])), 'float32'),
  );
  const kept = tf.sub(1, tf.addN(written));
  const store = (old: Tensor, layer: number, parts: Tensor[][]): Tensor =>
    (parts[layer] as Tensor[]).reduce(
      (sum, part, at) => sum.add(finite(part).mul(written[at] as Tensor)),
      old.mul(kept) as Tensor,
    );
  return {
    tokens: tf.concat(tokens, 1),
    keys: inputs.keys.map((old, layer) => store(old, layer, recent.keys)),
    values: inputs.values.map((old, layer) => store(old, layer, recent.values)),
    seen: seen ? [seen] : [],
  };
}

/** The next block of every row of all calls; typed arrays are [rows] or [rows, block]. */
export interface BlockRows {
  /** Whether a row is wanted: a call without any is left out, and its tokens are 0. */
  live: readonly boolean[];
  /** Class of each row; ignored without conditioning. */
  labels: Int32Array;
  /** Position of the block's first token, from 0 after the prompt. 0 begins a row anew. */
  starts: Int32Array;
  /** Token at that position. */
  tokens: Int32Array;
  /** The token that must follow each position, or -1. */
  forced: Int32Array;
  /** In [0, 1). */
  uniforms: Float32Array;
}

export interface BlockDecoder {
  /** Decodes a block. Returns the tokens that follow its positions, [rows, block]. */
  next(rows: BlockRows): Int32Array;
  dispose(): void;
}

/** Cache in which each row begins with the prompt. */
function initialCache({ config, weights, prompt }: DecodedModel, batch: number, maxTime: number): DecodeCache {
  const empty = emptyCache(config, batch, maxTime);
  if (prompt === null) return empty;
  const behind = (start: Tensor, rest: Tensor): Tensor => tf.concat([tf.tile(start, [batch, 1, 1, 1]), rest], 2);
  const cache = tf.tidy(() => {
    const first = promptCache(config, weights, prompt);
    return {
      keys: empty.keys.map((keys, layer) => behind(first.keys[layer] as Tensor, keys)),
      values: empty.values.map((values, layer) => behind(first.values[layer] as Tensor, values)),
    };
  });
  disposeTree(empty as { keys: Tensor[]; values: Tensor[] });
  return cache;
}

/** [1, vocab]: 0, and far below any logit for banned tokens. */
function banOf({ vocab }: DecoderConfig, banned: readonly number[]): Tensor[] {
  if (banned.length === 0) return [];
  const bias = new Float32Array(vocab);
  for (const id of banned) bias[id] = -1e9;
  return [tf.tensor(bias, [1, vocab])];
}

/** What one call takes of the rows. */
function callTensors(
  { labels, starts, tokens, forced, uniforms }: BlockRows,
  call: number,
  { batch, block }: BlockDecoderOptions,
): Pick<BlockInputs, 'labels' | 'token' | 'starts' | 'forced' | 'uniforms'> {
  const own = <T extends Int32Array | Float32Array>(values: T, width: number): T =>
    values.slice(call * batch * width, (call + 1) * batch * width) as T;
  return {
    labels: tf.tensor(own(labels, 1), [batch], 'int32'),
    token: tf.tensor(own(tokens, 1), [batch], 'int32'),
    starts: tf.tensor(Float32Array.from(own(starts, 1)), [batch]),
    forced: tf.tensor(own(forced, block), [batch, block], 'int32'),
    uniforms: tf.tensor(own(uniforms, block), [batch, block]),
  };
}

/** Compiles decoding for one model. It keeps the tensors that it is given and disposes none of them. */
export function compileBlockDecoder(model: DecodedModel, options: BlockDecoderOptions): BlockDecoder {
  const { config } = model;
  const { batch, calls = 1, block, maxTime } = options;
  const names = Object.keys(weightShapes(config));
  const ban = banOf(config, options.banned);
  const shared = {
    weights: Object.fromEntries(names.map((name) => [name, model.weights[name] as Tensor])),
    conditioning: Object.fromEntries(
      [classInput, classOutput, classBias]
        .filter((name) => name in model.conditioning)
        .map((name) => [name, model.conditioning[name] as Tensor]),
    ),
    ban,
  };
  type State = Pick<BlockInputs, 'keys' | 'values' | 'seen'>;
  const initial = (): State => {
    const seen = options.rules.repetitionPenalty === 1 ? [] : [tf.zeros([batch, config.vocab]) as Tensor];
    return { ...initialCache(model, batch, maxTime), seen } as State;
  };
  const states = Array.from({ length: calls }, initial);
  const example = {
    labels: tf.zeros([batch], 'int32') as Tensor,
    token: tf.zeros([batch], 'int32') as Tensor,
    starts: tf.zeros([batch]) as Tensor,
    forced: tf.zeros([batch, block], 'int32') as Tensor,
    uniforms: tf.zeros([batch, block]) as Tensor,
  };
  const run: CompiledFunction<BlockInputs, BlockOutputs> = compile(
    (inputs: BlockInputs) => decodeBlock(model, options, inputs),
    { ...shared, ...(states[0] as State), ...example },
    { atOnce: calls },
  );
  disposeTree(example);
  return {
    next(rows) {
      const busy = states
        .map((_, call) => call)
        .filter((call) => rows.live.slice(call * batch, (call + 1) * batch).includes(true));
      const given = busy.map((call) => ({ ...(states[call] as State), ...callTensors(rows, call, options) }));
      const outputs = run.all(given.map((own) => ({ ...shared, ...own })));
      const ids = new Int32Array(calls * batch * block);
      outputs.forEach(({ tokens, ...next }, at) => {
        const call = busy[at] as number;
        ids.set(tokens.dataSync(), call * batch * block);
        states[call] = next;
        tokens.dispose();
      });
      disposeTree(given);
      return ids;
    },
    dispose: () => {
      run.dispose();
      disposeTree([states, ban]);
    },
  };
}
