/** @file Decoders in Hugging Face folders against logits that PyTorch's transformers wrote (`fixtures/make-models.py`). */

import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { compile, disposeTree } from '../../../learning/compile/index.ts';
import { decodeStep, emptyCache, forward, type DecodeCache } from '../../../learning/decoder/forward.ts';
import { writeModelFolder } from '../../../learning/formats/model-folder.ts';
import { readModel, type Model } from '../../../learning/formats/model.ts';
import { tf, type Tensor } from '../../../learning/tensorflow.ts';

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

type StepInputs = { weights: Record<string, Tensor>; cache: DecodeCache; tokens: Tensor; positions: Tensor };

type StepOutputs = ReturnType<typeof decodeStep>;

/** Those that are also compiled: one a way to compute positions. */
const compiled = ['llama-llama3', 'llama-yarn', 'gpt2'];

/** Logits [batch, time, vocab] of cached decoding, one position a call. */
function decoded(name: string, { config, weights }: Model): Float32Array {
  const plain = (inputs: StepInputs) =>
    decodeStep(config, inputs.weights, inputs.cache, inputs.tokens, inputs.positions);
  const program = compiled.includes(name) ? compile(plain) : null;
  const step = program ?? ((inputs: StepInputs) => tf.tidy(() => plain(inputs) as never) as StepOutputs);
  const found = new Float32Array(rows * time * config.vocab);
  let cache = emptyCache(config, rows, time);
  for (let position = 0; position < time; position++) {
    const given = {
      tokens: tf.tensor1d(
        expected.tokens.map((row) => row[position]!),
        'int32',
      ) as Tensor,
      positions: tf.fill([rows], position, 'int32') as Tensor,
    };
    const result = step({ weights, cache, ...given });
    disposeTree(cache);
    disposeTree(given);
    cache = result.cache;
    const values = result.logits.dataSync();
    for (let row = 0; row < rows; row++) {
      found.set(values.subarray(row * config.vocab, (row + 1) * config.vocab), (row * time + position) * config.vocab);
    }
  }
  program?.dispose();
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

  it('gives the same when it is decoded token by token', () => {
    expect(largestDifference(decoded(name, model), logitsOf(name))).toBeLessThan(1e-4);
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
