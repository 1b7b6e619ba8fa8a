/** @file Texts as vectors, by a decoder, which says how probable it finds them too, or by an encoder. */

import { compile, type CompiledFunction } from './compile/index.ts';
import { flatHidden, headLogits, plainLayers } from './decoder/forward.ts';
import { crossEntropy } from './decoder/loss.ts';
import { bucketLengths, encodeRecord } from './dp/sequences.ts';
import { encode } from './encoder/forward.ts';
import { readEncoder, readEncoderTokenizer } from './formats/encoder-folder.ts';
import { readModel, readTokenizer } from './formats/model.ts';
import { tf, type Tensor } from './tensorflow.ts';

export interface EmbeddedTexts {
  dim: number;
  /** [texts * dim] */
  vectors: Float64Array;
  /** Of each text, nats of its tokens together and how many they are; null by an encoder. */
  loss: { nats: Float64Array; tokens: Float64Array } | null;
}

export interface TextEmbedder {
  /** @param onTexts hears how many are done; may yield to the event loop or throw */
  embed(texts: readonly string[], onTexts: (done: number) => Promise<void>): Promise<EmbeddedTexts>;
  dispose(): void;
}

/** Tokens of a call, about; and most numbers that its logits may be. */
const tokensACall = 2048;
const mostLogits = 1 << 26;

type Weights = Record<string, Tensor>;
/** `pooled` [rows, time]: 1 at the positions whose mean is the vector. */
type Inputs = { weights: Weights; tokens: Tensor; present: Tensor; pooled: Tensor };
type Outputs = { vectors: Tensor; nats: Tensor };

/** A text as ids with what is wanted of each position. */
interface Encoded {
  /** Ids that are read. */
  tokens: Int32Array;
  /** Positions whose mean is the vector: from this one to the end. */
  pooledFrom: number;
  /** Ids that are predicted, one a position; empty by an encoder. */
  targets: Int32Array;
}

interface Model {
  dim: number;
  vocab: number;
  weights: Weights;
  /** Longest text, tokens. */
  longest: number;
  encode(text: string): Encoded;
  compute(inputs: Inputs & { targets: Tensor }): Outputs;
}

/** Mean over the pooled positions. @param hidden [rows, time, dim] */
const meanOver = (hidden: Tensor, pooled: Tensor): Tensor =>
  hidden.mul(pooled.expandDims(2)).sum(1).div(pooled.sum(1, true).maximum(1));

/**
 * Vectors are means of the last hidden states, after the final norm, over the tokens of a text.
 *
 * @param sequence longest text, tokens; the rest is cut
 */
export async function decoderEmbedder(path: string, sequence: number): Promise<TextEmbedder> {
  const { config, weights } = await readModel(path);
  const tokenizer = await readTokenizer(path);
  const { bosId, eosId } = tokenizer;
  const longest = Math.min(sequence, config.context);
  return embedderOf({
    dim: config.dim,
    vocab: config.vocab,
    weights,
    longest,
    encode(text) {
      const parts = { bosId, eosId, prefix: new Int32Array(), text: tokenizer.encode(text), label: 0 };
      const { tokens } = encodeRecord(parts, longest);
      // Of an empty text only the start token can be read.
      return { tokens: tokens.slice(0, -1), pooledFrom: tokens.length > 2 ? 1 : 0, targets: tokens.slice(1) };
    },
    compute({ weights: given, tokens, targets, present, pooled }) {
      const [rows, time] = tokens.shape as [number, number];
      const hidden = flatHidden(config, given, tokens);
      const each = crossEntropy(
        headLogits({ config, layers: plainLayers(given) }, hidden),
        targets.reshape([rows * time]),
        present.reshape([rows * time]),
      );
      const vectors = meanOver(hidden.reshape([rows, time, config.dim]), pooled);
      return { vectors, nats: each.reshape([rows, time]).sum(1) };
    },
  });
}

/**
 * Vectors are means of the last hidden states over all tokens, scaled to length 1, as sentence-transformers' models of
 * this family are made for (Reimers and Gurevych 2019).
 *
 * @param path folder of an encoder of the BERT family with its tokenizer; @param sequence longest text, tokens
 */
export async function encoderEmbedder(path: string, sequence: number): Promise<TextEmbedder> {
  const { config, weights } = await readEncoder(path);
  const tokenizer = await readEncoderTokenizer(path);
  const longest = Math.min(sequence, config.context);
  return embedderOf({
    dim: config.dim,
    vocab: 1,
    weights,
    longest,
    encode(text) {
      const tokens = tokenizer.encode(text, longest);
      return { tokens, pooledFrom: 0, targets: new Int32Array(tokens.length) };
    },
    compute({ weights: given, tokens, present, pooled }) {
      const mean = meanOver(encode(config, given, tokens, present), pooled);
      const length = mean.square().sum(1, true).sqrt().maximum(1e-12);
      return { vectors: mean.div(length), nats: present.sum(1) };
    },
  });
}

function embedderOf(model: Model): TextEmbedder {
  const run: CompiledFunction<Inputs & { targets: Tensor }, Outputs> = compile((inputs) => model.compute(inputs));
  const lengths = bucketLengths(model.longest);
  const { dim, vocab } = model;
  return {
    async embed(texts, onTexts) {
      const encoded = texts.map((text) => model.encode(text));
      const result = { dim, vectors: new Float64Array(texts.length * dim), loss: lossOf(texts.length) };
      let done = 0;
      for (const time of lengths) {
        const shorter = lengths[lengths.indexOf(time) - 1] ?? 0;
        const places = [...encoded.keys()].filter((at) => {
          const { length } = encoded[at]!.tokens;
          return length > shorter && length <= time;
        });
        const rows = Math.max(1, Math.floor(Math.min(tokensACall, mostLogits / vocab) / time));
        for (let start = 0; start < places.length; start += rows) {
          const part = places.slice(start, start + rows);
          runPart(model, run, { rows, time }, part, encoded, result);
          done += part.length;
          await onTexts(done);
        }
      }
      return { ...result, loss: vocab === 1 ? null : result.loss };
    },
    dispose() {
      run.dispose();
      tf.dispose(model.weights);
    },
  };
}

const lossOf = (texts: number): { nats: Float64Array; tokens: Float64Array } => ({
  nats: new Float64Array(texts),
  tokens: new Float64Array(texts),
});

/** Computes some texts, and what is found into its places. */
function runPart(
  { dim, weights }: Model,
  run: CompiledFunction<Inputs & { targets: Tensor }, Outputs>,
  { rows, time }: { rows: number; time: number },
  places: readonly number[],
  encoded: readonly Encoded[],
  { vectors, loss }: { vectors: Float64Array; loss: { nats: Float64Array; tokens: Float64Array } },
): void {
  const [tokens, targets] = [new Int32Array(rows * time), new Int32Array(rows * time)];
  const [present, pooled] = [new Float32Array(rows * time), new Float32Array(rows * time)];
  places.forEach((place, row) => {
    const text = encoded[place]!;
    tokens.set(text.tokens, row * time);
    targets.set(text.targets, row * time);
    present.fill(1, row * time, row * time + text.tokens.length);
    pooled.fill(1, row * time + text.pooledFrom, row * time + text.tokens.length);
  });
  const shape: [number, number] = [rows, time];
  const given = {
    tokens: tf.tensor2d(tokens, shape, 'int32') as Tensor,
    targets: tf.tensor2d(targets, shape, 'int32') as Tensor,
    present: tf.tensor2d(present, shape) as Tensor,
    pooled: tf.tensor2d(pooled, shape) as Tensor,
  };
  const found = run({ weights, ...given });
  const [each, nats] = [found.vectors.dataSync(), found.nats.dataSync()];
  tf.dispose([...Object.values(given), found.vectors, found.nats]);
  places.forEach((place, row) => {
    vectors.set(each.subarray(row * dim, (row + 1) * dim), place * dim);
    loss.nats[place] = nats[row]!;
    loss.tokens[place] = encoded[place]!.tokens.length;
  });
}
