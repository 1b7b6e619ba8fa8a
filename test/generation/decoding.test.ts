import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { adapted } from '../../learning/tuning/apply.ts';
import {
  classBias,
  classInput,
  classOutput,
  promptName,
  sizeOf,
  trainedParameters,
  type AdapterShape,
} from '../../learning/tuning/parameters.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { forward } from '../../learning/decoder/forward.ts';
import { initialWeights } from '../../learning/decoder/weights.ts';
import {
  compileBlockDecoder,
  type BlockDecoder,
  type BlockDecoderOptions,
  type DecodedModel,
} from '../../learning/decoding/block-decoder.ts';
import { mergeAdapter } from '../../learning/decoding/merge.ts';
import { bestTokens, chooseTokens, drawTokens, type SamplingRules } from '../../learning/decoding/sampling.ts';
import { TextGenerator, type GeneratedText, type TextGeneratorOptions } from '../../learning/decoding/texts.ts';
import { readLlama2c } from '../../learning/formats/llama2c.ts';
import { toTensors } from '../../learning/formats/model-folder.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import type { Tokenizer } from '../../learning/tokenizer/index.ts';
import { seededStream } from '../../privacy/noise.ts';
import { requires } from '../requires.ts';
import { smallConfig, smallGpt2, smallWeights } from '../learning/small-model.ts';
import { sharedData } from '../shared-data.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

/** Token that inversion gives for a row of logits, in double precision, and how far the draw was from its neighbours. */
function inversion(logits: Float32Array, uniform: number, temperature: number): { token: number; margin: number } {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const weights = Array.from(logits, (value) => Math.exp((value - largest) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let sum = 0;
  for (let token = 0; token < weights.length; token++) {
    const next = sum + weights[token]! / total;
    if (next > uniform) return { token, margin: Math.min(uniform - sum, next - uniform) };
    sum = next;
  }
  throw new Error('the uniform number is not below 1');
}

describe('drawing tokens', () => {
  const vocab = 150;
  const stream = seededStream(1, 'logits');
  const logits = new Float32Array(40 * vocab);
  stream.fillGaussian(logits, 3);
  const uniforms = Float32Array.from({ length: 40 }, () => stream.uniform());

  it.each([1, 0.7])('inverts the distribution function at temperature %d', (temperature) => {
    const drawn = tf.tidy(() =>
      drawTokens(tf.tensor(logits, [40, vocab]).mul(1 / temperature), tf.tensor(uniforms)).dataSync(),
    );
    for (let row = 0; row < 40; row++) {
      const expected = inversion(logits.subarray(row * vocab, (row + 1) * vocab), uniforms[row]!, temperature);
      if (expected.margin > 1e-5) expect(drawn[row]).toBe(expected.token);
    }
  });

  it('stays inside the vocabulary and off impossible tokens at both ends of [0, 1]', () => {
    const certain = new Float32Array(2 * vocab).fill(-1e9);
    certain[17] = 0;
    certain[vocab + 149] = 0;
    const draw = (values: Float32Array, uniform: number): number[] => {
      const rows = values.length / vocab;
      return tf.tidy(() => [...drawTokens(tf.tensor(values, [rows, vocab]), tf.fill([rows], uniform)).dataSync()]);
    };
    for (const uniform of [0, 0.5, 1 - 2 ** -24, 1]) expect(draw(certain, uniform)).toEqual([17, 149]);
    for (const token of [...draw(logits, 0), ...draw(logits, 1)]) expect(token).toBeLessThan(vocab);
  });

  it('takes the largest logit when greedy', () => {
    const best = tf.tidy(() => bestTokens(tf.tensor(logits, [40, vocab])).dataSync());
    for (let row = 0; row < 40; row++) {
      const values = logits.subarray(row * vocab, (row + 1) * vocab);
      expect(best[row]).toBe(values.indexOf(Math.max(...values)));
    }
  });
});

const plain: SamplingRules = { temperature: 1, topK: null, topP: 1, repetitionPenalty: 1 };

/** Rows of a batch from their first position on, typed arrays as in `BlockRows` but of [batch, maxTime]. */
interface WholeRows {
  labels: Int32Array;
  first: Int32Array;
  forced: Int32Array;
  uniforms: Float32Array;
}

/** Decodes all rows side by side to the end. Returns their tokens after the first. */
function decodeWhole(
  decoder: BlockDecoder,
  { batch, block, maxTime }: Pick<BlockDecoderOptions, 'batch' | 'block' | 'maxTime'>,
  { labels, first, forced, uniforms }: WholeRows,
): number[][] {
  const rows: number[][] = Array.from({ length: batch }, () => []);
  const columns = <A extends Int32Array | Float32Array>(values: A, start: number): A => {
    const out = values.slice(0, batch * block) as A;
    for (let row = 0; row < batch; row++) {
      for (let at = 0; at < block; at++) out[row * block + at] = values[row * maxTime + start + at]!;
    }
    return out;
  };
  let tokens = first;
  for (let start = 0; start < maxTime; start += block) {
    const starts = new Int32Array(batch).fill(start);
    const given = {
      live: Array.from(labels, () => true),
      forced: columns(forced, start),
      uniforms: columns(uniforms, start),
    };
    const ids = decoder.next({ labels, starts, tokens, ...given });
    rows.forEach((row, index) => row.push(...ids.subarray(index * block, (index + 1) * block)));
    tokens = Int32Array.from(rows, (row) => row.at(-1)!);
  }
  return rows;
}

const hasModel = requires('shared-data', 'block decoding of a pre-trained model');

describe.runIf(hasModel)('block decoding of a pre-trained model', () => {
  const batch = 3;
  const maxTime = 24;
  let config: DecoderConfig;
  let weights: Record<string, Tensor>;
  beforeAll(async () => {
    const model = await readLlama2c(join(sharedData, 'stories260k', 'stories260K.bin'));
    config = model.config;
    weights = toTensors(model.weights);
  });

  const request = (changes: Partial<WholeRows> = {}): WholeRows => ({
    labels: new Int32Array(batch),
    first: new Int32Array(batch).fill(1),
    forced: new Int32Array(batch * maxTime).fill(-1),
    uniforms: new Float32Array(batch * maxTime),
    ...changes,
  });

  /** Compiling takes seconds, so the tests share decoders. */
  const decoders = new Map<string, BlockDecoder>();
  const decoderOf = (greedy: boolean, block: number): BlockDecoder => {
    const key = `${greedy} ${block}`;
    let decoder = decoders.get(key);
    if (decoder === undefined) {
      const rules = { ...plain, temperature: greedy ? 0 : 0.8 };
      const model: DecodedModel = { config, weights, conditioning: {}, prompt: null };
      decoder = compileBlockDecoder(model, { batch, block, maxTime, rules, banned: [] });
      decoders.set(key, decoder);
    }
    return decoder;
  };
  afterAll(() => decoders.forEach((decoder) => decoder.dispose()));

  const decode = (greedy: boolean, block: number, given: WholeRows): number[][] =>
    decodeWhole(decoderOf(greedy, block), { batch, block, maxTime }, given);

  /** Logits after each position of one row, by the full forward pass. */
  const fullLogits = (ids: number[]): Float32Array =>
    tf.tidy(() => forward(config, weights, tf.tensor(ids, [1, ids.length], 'int32')).dataSync() as Float32Array);

  it('gives the golden greedy ids', async () => {
    const golden = [
      403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419,
      292,
    ];
    expect(decode(true, 3, request())).toEqual([golden, golden, golden]);
  });

  it('draws what the full forward pass gives, whatever the block', async () => {
    const stream = seededStream(2, 'uniforms');
    const uniforms = Float32Array.from({ length: batch * maxTime }, () => stream.uniform());
    const given = request({ uniforms });
    const rows = decode(false, 1, given);
    expect(decode(false, 4, given)).toEqual(rows);
    let compared = 0;
    rows.forEach((row, index) => {
      const logits = fullLogits([1, ...row.slice(0, -1)]);
      row.forEach((token, at) => {
        const expected = inversion(
          logits.subarray(at * config.vocab, (at + 1) * config.vocab),
          uniforms[index * maxTime + at]!,
          0.8,
        );
        if (expected.margin < 1e-4) return;
        compared++;
        expect(token).toBe(expected.token);
      });
    });
    expect(compared).toBeGreaterThan(batch * maxTime * 0.9);
  });

  it('feeds forced tokens and draws after them, at another place in each row', async () => {
    const forced = new Int32Array(batch * maxTime).fill(-1);
    const prefixes = [[403, 407], [403, 407, 261, 378, 432], []];
    prefixes.forEach((prefix, row) => forced.set(prefix, row * maxTime));
    const rows = decode(true, 3, request({ forced }));
    // The prefixes begin the greedy text, so all rows end up with it.
    expect(rows[0]).toEqual(rows[2]);
    expect(rows[1]).toEqual(rows[2]);
    forced.set([300, 301], 0);
    const changed = decode(true, 3, request({ forced }));
    expect(changed[0]!.slice(0, 2)).toEqual([300, 301]);
    const logits = fullLogits([1, ...changed[0]!.slice(0, -1)]);
    const last = logits.subarray((maxTime - 1) * config.vocab);
    expect(changed[0]!.at(-1)).toBe(last.indexOf(Math.max(...last)));
  });
});

describe('decoding of an adapted model', () => {
  const llama: DecoderConfig = {
    family: 'llama',
    dim: 32,
    layers: 2,
    heads: 4,
    kvHeads: 2,
    hidden: 48,
    vocab: 100,
    context: 16,
    ropeTheta: 10_000,
    rmsEps: 1e-5,
    tied: true,
  };
  const lora: AdapterShape = { kind: 'lora', rank: 2, alpha: 4, targets: ['q', 'v', 'o', 'down'], classes: 3 };
  const prompt: AdapterShape = { kind: 'prompt', length: 3, classes: 3 };

  it.each([
    ['LoRA', llama, lora],
    ['a prompt', llama, prompt],
    ['a prompt in GPT-2', smallGpt2, prompt],
  ] as [string, DecoderConfig, AdapterShape][])(
    'gives what %s and class conditioning give in the full forward pass',
    (_, config, adapter) => {
      const stream = seededStream(3, 'weights');
      const weights = initialWeights(config, (out, deviation) => stream.fillGaussian(out, 4 * deviation));
      const tensors = Object.fromEntries(
        trainedParameters(config, adapter).map((parameter) => {
          const values = new Float32Array(sizeOf(parameter));
          stream.fillGaussian(values, 0.3);
          return [parameter.name, tf.tensor(values, parameter.shape) as Tensor];
        }),
      );
      const labels = Int32Array.from([2, 0, 1, 0]);
      const options = { batch: 4, block: 2, maxTime: 12, rules: plain, banned: [] };
      const { batch, maxTime } = options;
      const model: DecodedModel = {
        config,
        weights: adapter.kind === 'lora' ? mergeAdapter(config, weights, adapter, tensors).weights : weights,
        conditioning: Object.fromEntries([classInput, classOutput, classBias].map((name) => [name, tensors[name]!])),
        prompt: tensors[promptName] ?? null,
      };
      // Two calls side by side, of two rows each.
      const decoder = compileBlockDecoder(model, { ...options, batch: 2, calls: 2 });
      const uniforms = Float32Array.from({ length: batch * maxTime }, () => stream.uniform());
      const forced = new Int32Array(batch * maxTime).fill(-1);
      const rows = decodeWhole(decoder, options, { labels, uniforms, first: new Int32Array(batch), forced });
      decoder.dispose();
      const ids = rows.map((row) => [0, ...row.slice(0, -1)]);
      const full = tf.tidy(() => {
        const hooks = adapted(adapter, tensors, tf.tensor(labels, [batch], 'int32'));
        return forward(config, weights, tf.tensor(ids, [batch, maxTime], 'int32'), hooks).dataSync() as Float32Array;
      });
      let compared = 0;
      rows.flat().forEach((token, at) => {
        const expected = inversion(full.subarray(at * config.vocab, (at + 1) * config.vocab), uniforms[at]!, 1);
        if (expected.margin < 1e-4) return;
        compared++;
        expect(token).toBe(expected.token);
      });
      expect(compared).toBeGreaterThan(40);
    },
  );
});

it('decodes a text alike behind one that was not finite', () => {
  const config = { ...smallConfig, layers: 1 };
  const weights = smallWeights(config);
  const spoiled = 7;
  const embeddings = (weights['model.embed_tokens.weight']!.dataSync() as Float32Array).slice();
  embeddings[spoiled * config.dim] = Infinity;
  weights['model.embed_tokens.weight'] = tf.tensor(embeddings, [config.vocab, config.dim]);
  const options = { batch: 1, block: 2, maxTime: 4, rules: { ...plain, temperature: 0 }, banned: [] };
  const decoder = compileBlockDecoder({ config, weights, conditioning: {}, prompt: null }, options);
  const forced = new Int32Array(4).fill(-1);
  const text = (first: number): number[][] =>
    decodeWhole(decoder, options, {
      ...{ labels: new Int32Array(1), first: Int32Array.of(first), forced, uniforms: new Float32Array(4) },
    });
  const fresh = text(1);
  text(spoiled);
  expect(text(1)).toEqual(fresh);
  decoder.dispose();
});

describe('rules of sampling', () => {
  const [rows, vocab] = [30, 70];
  const stream = seededStream(7, 'rules');
  const logits = new Float32Array(rows * vocab);
  stream.fillGaussian(logits, 2);
  const uniforms = Float32Array.from({ length: rows }, () => stream.uniform());
  const seen = Float32Array.from(logits, () => (stream.uniform() < 0.3 ? 1 : 0));
  const choose = (rules: SamplingRules): Int32Array =>
    tf.tidy(
      () =>
        chooseTokens(
          tf.tensor(logits, [rows, vocab]),
          rules,
          tf.tensor(uniforms),
          rules.repetitionPenalty === 1 ? null : tf.tensor(seen, [rows, vocab]),
        ).dataSync() as Int32Array,
    );

  /** The same, by sorting in double precision: penalty, temperature, top-k, top-p, inversion. */
  function reference(row: number, rules: SamplingRules): { token: number; margin: number } {
    const { temperature, topK, topP, repetitionPenalty } = rules;
    const scores = Array.from(logits.subarray(row * vocab, (row + 1) * vocab), (value, token) => {
      const factor = value > 0 ? 1 / repetitionPenalty : repetitionPenalty;
      return (seen[row * vocab + token] === 1 ? value * factor : value) / temperature;
    });
    const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!).slice(0, topK ?? vocab);
    const weight = (token: number): number => Math.exp(scores[token]! - scores[order[0]!]!);
    const total = order.reduce((sum, token) => sum + weight(token), 0);
    let mass = 0;
    const nucleus = new Set(
      order.filter((token) => {
        const isIn = mass < topP * total;
        mass += weight(token);
        return isIn;
      }),
    );
    const kept = Float32Array.from(scores, (score, token) => (nucleus.has(token) ? score : -1e9));
    return inversion(kept, uniforms[row]!, 1);
  }

  it.each([
    ['top-k', { ...plain, topK: 5 }],
    ['one token', { ...plain, topK: 1 }],
    ['more than there are', { ...plain, topK: 500 }],
    ['top-p', { ...plain, temperature: 0.9, topP: 0.7 }],
    ['a nucleus of one token', { ...plain, topP: 1e-6 }],
    ['a penalty', { ...plain, repetitionPenalty: 1.5 }],
    ['all of them', { temperature: 1.2, topK: 20, topP: 0.8, repetitionPenalty: 1.3 }],
  ] as [string, SamplingRules][])('choose as a sorting sampler does: %s', (_, rules) => {
    const chosen = choose(rules);
    let compared = 0;
    for (let row = 0; row < rows; row++) {
      const { token, margin } = reference(row, rules);
      if (margin < 1e-5) continue;
      compared++;
      expect(chosen[row]).toBe(token);
    }
    expect(compared).toBeGreaterThan(rows * 0.9);
  });
});

describe('texts', () => {
  const config: DecoderConfig = {
    family: 'llama',
    dim: 48,
    layers: 2,
    heads: 4,
    kvHeads: 2,
    hidden: 80,
    vocab: 300,
    context: 24,
    ropeTheta: 10_000,
    rmsEps: 1e-5,
    tied: true,
  };
  const stream = seededStream(4, 'weights');
  const weights = initialWeights(config, (out, deviation) => stream.fillGaussian(out, 4 * deviation));
  const tokenizer = { vocabularySize: 300, bosId: 0, eosId: 0, decode: (ids: Iterable<number>) => [...ids].join(' ') };
  const generatorWith = (changes: Partial<TextGeneratorOptions>): TextGenerator =>
    new TextGenerator({
      ...{ model: { config, weights, conditioning: {}, prompt: null }, tokenizer: tokenizer as unknown as Tokenizer },
      ...{ prefixes: [[5, 6], [7]], maxTokens: 14, rules: plain, banned: [], seed: 1 },
      ...changes,
    });
  async function take(generator: TextGenerator, from: number, count: number) {
    const texts: GeneratedText[] = [];
    let decoded = 0;
    const hear = async (tokens: number): Promise<void> => void (decoded += tokens);
    for await (const text of generator.texts(from, () => count - texts.length, hear)) texts.push(text);
    return { texts, decoded };
  }

  it('are the same in any place of a batch, beside any others and behind any that ended', async () => {
    const generator = generatorWith({});
    const { texts } = await take(generator, 0, 600);
    expect(texts.map(({ row }) => row)).toEqual(Array.from({ length: 600 }, (_, row) => row));
    expect(new Set(texts.map(({ text }) => text)).size).toBeGreaterThan(500);
    const later = await take(generator, 301, 120);
    expect(later.texts).toEqual(texts.slice(301, 421));
    generator.dispose();
  });

  it('that end make room for others', async () => {
    // The end is as likely as all else together.
    const bias = new Float32Array(config.vocab);
    bias[0] = Math.log(config.vocab);
    const classes = {
      [classInput]: tf.zeros([2, config.dim]) as Tensor,
      [classOutput]: tf.zeros([2, config.dim]) as Tensor,
      [classBias]: tf.tensor([...bias, ...bias], [2, config.vocab]) as Tensor,
    };
    const generator = generatorWith({ model: { config, weights, conditioning: classes, prompt: null }, maxTokens: 20 });
    const { texts, decoded } = await take(generator, 0, 2_000);
    generator.dispose();
    const longest = 2_000 * 24;
    expect(texts).toHaveLength(2_000);
    expect(decoded).toBeLessThan(0.5 * longest);
  });

  it('hold no banned token, and repeat less under a penalty', async () => {
    const banned = Array.from({ length: 290 }, (_, id) => id + 10);
    const usual = generatorWith({ banned });
    const penalised = generatorWith({ banned, rules: { ...plain, repetitionPenalty: 10 } });
    const repeats = ({ text }: GeneratedText): number => {
      const ids = text.split(' ');
      return ids.length - new Set(ids).size;
    };
    const [before, after] = [await take(usual, 0, 256), await take(penalised, 0, 256)];
    for (const { text } of before.texts) for (const id of text.split(' ')) expect(Number(id)).toBeLessThan(10);
    const total = (texts: GeneratedText[]): number => texts.reduce((sum, text) => sum + repeats(text), 0);
    expect(total(after.texts)).toBeLessThan(total(before.texts));
    usual.dispose();
    penalised.dispose();
  });
});
