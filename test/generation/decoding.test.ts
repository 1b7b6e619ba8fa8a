import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { adapted } from '../../learning/adapter/apply.ts';
import { adapterParameters, classBias, classInput, classOutput, sizeOf } from '../../learning/adapter/parameters.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { forward } from '../../learning/decoder/forward.ts';
import { initialWeights } from '../../learning/decoder/weights.ts';
import { compileBlockDecoder, type BlockDecoder, type DecodeRequest } from '../../learning/decoding/block-decoder.ts';
import { mergeAdapter } from '../../learning/decoding/merge.ts';
import { bestTokens, drawTokens } from '../../learning/decoding/sampling.ts';
import { TextGenerator } from '../../learning/decoding/texts.ts';
import { readLlama2c } from '../../learning/formats/llama2c.ts';
import { toTensors } from '../../learning/formats/model-folder.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import type { Tokenizer } from '../../learning/tokenizer/index.ts';
import { seededStream } from '../../privacy/noise.ts';
import { requires } from '../requires.ts';
import { sharedData } from '../shared-data.ts';

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
      drawTokens(tf.tensor(logits, [40, vocab]), tf.tensor(uniforms), tf.scalar(1 / temperature)).dataSync(),
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
      return tf.tidy(() => [
        ...drawTokens(tf.tensor(values, [rows, vocab]), tf.fill([rows], uniform), tf.scalar(1)).dataSync(),
      ]);
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

  const request = (changes: Partial<DecodeRequest> = {}): DecodeRequest => ({
    labels: new Int32Array(batch),
    first: new Int32Array(batch).fill(1),
    forced: new Int32Array(batch * maxTime).fill(-1),
    uniforms: new Float32Array(batch * maxTime),
    inverseTemperature: 1,
    ...changes,
  });

  /** Compiling takes seconds, so the tests share decoders. */
  const decoders = new Map<string, BlockDecoder>();
  const decoderOf = (greedy: boolean, block: number): BlockDecoder => {
    const key = `${greedy} ${block}`;
    let decoder = decoders.get(key);
    if (decoder === undefined) {
      decoder = compileBlockDecoder(config, weights, {}, { batch, block, maxTime, classes: 0, greedy });
      decoders.set(key, decoder);
    }
    return decoder;
  };
  afterAll(() => decoders.forEach((decoder) => decoder.dispose()));

  async function decode(greedy: boolean, block: number, given: DecodeRequest): Promise<number[][]> {
    const rows: number[][] = Array.from({ length: batch }, () => []);
    await decoderOf(greedy, block).decode(given, (tokens) => {
      rows.forEach((row, index) => row.push(...tokens.subarray(index * block, (index + 1) * block)));
      return true;
    });
    return rows;
  }

  /** Logits after each position of one row, by the full forward pass. */
  const fullLogits = (ids: number[]): Float32Array =>
    tf.tidy(() => forward(config, weights, tf.tensor(ids, [1, ids.length], 'int32')).dataSync() as Float32Array);

  it('gives the golden greedy ids', async () => {
    const golden = [
      403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419,
      292,
    ];
    expect(await decode(true, 3, request())).toEqual([golden, golden, golden]);
  });

  it('draws what the full forward pass gives, whatever the block', async () => {
    const stream = seededStream(2, 'uniforms');
    const uniforms = Float32Array.from({ length: batch * maxTime }, () => stream.uniform());
    const given = request({ uniforms, inverseTemperature: 1 / 0.8 });
    const rows = await decode(false, 1, given);
    expect(await decode(false, 4, given)).toEqual(rows);
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
    const rows = await decode(true, 3, request({ forced }));
    // The prefixes begin the greedy text, so all rows end up with it.
    expect(rows[0]).toEqual(rows[2]);
    expect(rows[1]).toEqual(rows[2]);
    forced.set([300, 301], 0);
    const changed = await decode(true, 3, request({ forced }));
    expect(changed[0]!.slice(0, 2)).toEqual([300, 301]);
    const logits = fullLogits([1, ...changed[0]!.slice(0, -1)]);
    const last = logits.subarray((maxTime - 1) * config.vocab);
    expect(changed[0]!.at(-1)).toBe(last.indexOf(Math.max(...last)));
  });

  it('ends when told to', async () => {
    const starts: number[] = [];
    await decoderOf(true, 3).decode(request(), (_, start) => {
      starts.push(start);
      return start < 6;
    });
    expect(starts).toEqual([0, 3, 6]);
  });
});

describe('decoding of an adapted model', () => {
  it('gives what adapter and class conditioning give in the full forward pass', async () => {
    const config: DecoderConfig = {
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
    const stream = seededStream(3, 'weights');
    const weights = initialWeights(config, (out, deviation) => stream.fillGaussian(out, 4 * deviation));
    const adapter = { rank: 2, alpha: 4, targets: ['q', 'v', 'o', 'down'] as const, classes: 3 };
    const tensors = Object.fromEntries(
      adapterParameters(config, adapter).map((parameter) => {
        const values = new Float32Array(sizeOf(parameter));
        stream.fillGaussian(values, 0.3);
        return [parameter.name, tf.tensor(values, parameter.shape) as Tensor];
      }),
    );
    const tables = Object.fromEntries([classInput, classOutput, classBias].map((name) => [name, tensors[name]!]));
    const labels = Int32Array.from([2, 0, 1, 0]);
    const [batch, maxTime] = [4, 12];
    const merged = mergeAdapter(config, weights, adapter, tensors);
    const options = { batch, block: 2, maxTime, classes: 3, greedy: false };
    const decoder = compileBlockDecoder(config, merged.weights, tables, options);
    const uniforms = Float32Array.from({ length: batch * maxTime }, () => stream.uniform());
    const rows: number[][] = [[], [], [], []];
    await decoder.decode(
      {
        labels,
        uniforms,
        first: new Int32Array(batch),
        forced: new Int32Array(batch * maxTime).fill(-1),
        inverseTemperature: 1,
      },
      (tokens) => {
        rows.forEach((row, index) => row.push(...tokens.subarray(index * 2, (index + 1) * 2)));
        return true;
      },
    );
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
  });
});

it('gives a row the same text in any place of a batch and beside any others', async () => {
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
  const generator = new TextGenerator({
    ...{ config, weights, conditioning: {}, tokenizer: tokenizer as unknown as Tokenizer },
    ...{ prefixes: [[5, 6], [7]], maxTokens: 14, temperature: 1, seed: 1 },
  });
  const batchFrom = (from: number) => generator.batchFrom(from, () => Promise.resolve());
  const first = await batchFrom(0);
  const later = await batchFrom(101);
  expect(later.slice(0, 155)).toEqual(first.slice(101));
  expect(new Set(first.map(({ text }) => text)).size).toBeGreaterThan(200);
  generator.dispose();
});
