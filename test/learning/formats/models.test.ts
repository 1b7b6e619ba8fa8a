/** @file Decoders in Hugging Face folders against logits that PyTorch's transformers wrote (`fixtures/make-models.py`). */

import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { disposeTree } from '../../../learning/compile/index.ts';
import { forward } from '../../../learning/decoder/forward.ts';
import { compileBlockDecoder } from '../../../learning/decoding/block-decoder.ts';
import { writeModelFolder } from '../../../learning/formats/model-folder.ts';
import { readModel, type Model } from '../../../learning/formats/model.ts';
import { tf, type Tensor } from '../../../learning/tensorflow.ts';
import { addTensor } from './stored-buffers.ts';

const fixtures = new URL('../fixtures/models/', import.meta.url).pathname;

interface Expected {
  tokens: number[][];
  logits: Record<string, string>;
}

const expected = JSON.parse(await readFile(join(fixtures, 'expected.json'), 'utf8')) as Expected;
const ggufs = (await readdir(fixtures)).filter((name) => name.endsWith('.gguf'));
const [rows, time] = [expected.tokens.length, expected.tokens[0]!.length];
const logitsOf = (name: string): Float32Array =>
  new Float32Array(new Uint8Array(Buffer.from(expected.logits[name]!, 'base64')).buffer);

const largestDifference = (found: ArrayLike<number>, wanted: ArrayLike<number>): number => {
  expect(found).toHaveLength(wanted.length);
  return Array.from(wanted).reduce((largest, value, at) => Math.max(largest, Math.abs(value - found[at]!)), 0);
};

const tokens = (): Tensor => tf.tensor2d(expected.tokens, [rows, time], 'int32');

/** Divides the length of the texts. */
const block = 3;
const greedy = { temperature: 0, topK: null, topP: 1, repetitionPenalty: 1 };

/**
 * What greedy decoding draws after each position of the texts, [row][position]. The second row is a block behind the
 * first. Each block is decoded again and again with one position more of the text, until all of it is in the cache.
 */
function drawn({ config, weights }: Model): number[][] {
  const model = { config, weights, conditioning: {}, prompt: null };
  const decoder = compileBlockDecoder(model, { batch: rows, block, maxTime: time, rules: greedy, banned: [] });
  const found = expected.tokens.map((): number[] => []);
  const last = time / block - 1;
  for (let turn = 0; turn <= last + rows - 1; turn++) {
    const starts = Int32Array.from(found, (_, row) => block * Math.min(Math.max(turn - row, 0), last));
    for (let known = 0; known <= block; known++) {
      const tokens = Int32Array.from(starts, (start, row) => expected.tokens[row]![start]!);
      const forced = Int32Array.from({ length: rows * block }, (_, at) => {
        const [row, offset] = [Math.floor(at / block), at % block];
        return offset < known ? (expected.tokens[row]![starts[row]! + offset + 1] ?? 0) : -1;
      });
      const unused = { labels: new Int32Array(rows), uniforms: new Float32Array(rows * block) };
      const given = { ...unused, tokens, starts, forced, live: found.map(() => true) };
      const ids = decoder.next(given);
      if (known === block) continue;
      starts.forEach((start, row) => (found[row]![start + known] = ids[row * block + known]!));
    }
  }
  decoder.dispose();
  return found;
}

describe.each(Object.keys(expected.logits))('the model %s', (name) => {
  let model: Model;
  beforeAll(async () => {
    model = await readModel(join(fixtures, name));
  });
  afterAll(() => disposeTree(model.weights));

  it('gives the logits of another implementation in one pass', () => {
    const found = tf.tidy(() => forward(model.config, model.weights, tokens()).dataSync());
    expect(largestDifference(found, logitsOf(name))).toBeLessThan(1e-4);
  });

  it('draws the likeliest tokens when it is decoded in blocks, rows apart', { timeout: 180_000 }, () => {
    const { vocab } = model.config;
    const found = drawn(model).flat();
    expect(found).toHaveLength(rows * time);
    found.forEach((token, at) => {
      const logits = logitsOf(name).subarray(at * vocab, (at + 1) * vocab);
      // Logits may be off by 1e-4, as above; of two that are nearer, either may be drawn.
      expect(Math.max(...logits) - logits[token]!).toBeLessThan(2e-4);
    });
  });

  it.runIf(ggufs.includes(`${name}.gguf`))('gives the same logits from a GGUF file', async () => {
    const other = await readModel(join(fixtures, `${name}.gguf`));
    const found = tf.tidy(() => forward(other.config, other.weights, tokens()).dataSync());
    expect(largestDifference(found, logitsOf(name))).toBeLessThan(1e-4);
    disposeTree(other.weights);
  });

  it('is the same after it was written and read', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'model-'));
    try {
      await writeModelFolder(folder, model.config, model.weights, { bosTokenId: 1, eosTokenId: 2 });
      const again = await readModel(folder);
      expect(again.config).toEqual(model.config);
      const found = tf.tidy(() => forward(again.config, again.weights, tokens()).dataSync());
      expect(largestDifference(found, logitsOf(name))).toBeLessThan(1e-4);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('a folder', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'models-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const copyOf = async (name: string, changes: Record<string, unknown>): Promise<string> => {
    const copy = await mkdtemp(join(folder, name));
    await cp(join(fixtures, name), copy, { recursive: true });
    const file = join(copy, 'config.json');
    const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    await writeFile(file, JSON.stringify({ ...config, ...changes }));
    return copy;
  };

  it.each(['U8', 'BOOL', 'F32'])('of GPT-2 may hold its masks as %s', async (dtype) => {
    const copy = await copyOf('gpt2', {});
    const context = 8;
    const bytes = context ** 2 * (dtype === 'F32' ? 4 : 1);
    const file = join(copy, 'model.safetensors');
    await addTensor(file, 'transformer.h.0.attn.bias', { dtype, shape: [1, 1, context, context], bytes });
    await addTensor(file, 'transformer.h.0.attn.masked_bias', { dtype: 'F64', shape: [], bytes: 8 });
    const [found, wanted] = await Promise.all([copy, join(fixtures, 'gpt2')].map(readModel));
    expect(Object.keys(found!.weights)).toEqual(Object.keys(wanted!.weights));
    disposeTree([found!.weights, wanted!.weights]);
  });

  it('is refused when one of its files lacks a weight that the index names', async () => {
    const copy = await copyOf('llama-untied', {});
    const names = (await readdir(copy)).filter((name) => name.startsWith('model-')).sort();
    await cp(join(copy, names[0]!), join(copy, names[1]!));
    await expect(readModel(copy)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await expect(readModel(copy)).rejects.toThrow(/lacks the weight .* of the index/);
  });

  it.each([
    ['llama-untied', { rope_scaling: { rope_type: 'dynamic', factor: 2 } }, /dynamic turns positions differently/],
    ['llama-untied', { rope_scaling: { rope_type: 'other' } }, /unknown type "other"/],
    ['llama-untied', { model_type: 'mamba' }, /model_type is "mamba"; llama, mistral, qwen2, gpt2 are supported/],
    ['llama-untied', { hidden_act: 'relu' }, /hidden_act is "relu"; only "silu"/],
    ['llama-untied', { tie_word_embeddings: true, num_hidden_layers: 1 }, /weight model\.layers\.1\..* is unknown/],
    ['llama-untied', { num_hidden_layers: 3 }, /has no weight model\.layers\.2/],
    ['mistral-head-dim', { sliding_window: 16 }, /window of 16 tokens/],
    ['gpt2', { scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx is true/],
    ['gpt2', { activation_function: 'relu' }, /activation_function is "relu"/],
  ])('%s is refused with %j', async (name, changes, message) => {
    const copy = await copyOf(name, changes);
    await expect(readModel(copy)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await expect(readModel(copy)).rejects.toThrow(message);
  });
});
