/** @file GGUF files against values and logits that gguf and PyTorch's transformers wrote (`fixtures/make-fixtures.py`). */

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { forward } from '../../../learning/decoder/forward.ts';
import { dequantize, ggmlTypes } from '../../../learning/formats/gguf-quantization.ts';
import { readGguf } from '../../../learning/formats/gguf.ts';
import { toTensors } from '../../../learning/formats/model-folder.ts';
import { tf } from '../../../learning/tensorflow.ts';

const fixtures = new URL('../fixtures/', import.meta.url);
const modelFile = new URL('llama.gguf', fixtures).pathname;

interface Fixture {
  blocks: Record<string, { data: string; values: string }>;
  llama: { tokens: number[]; logits: string };
}

const fixture = JSON.parse(await readFile(new URL('gguf.json', fixtures), 'utf8')) as Fixture;
const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
const floats = (text: string): Float32Array => new Float32Array(new Uint8Array(bytes(text)).buffer);

describe('dequantisation', () => {
  for (const type of ggmlTypes.values()) {
    it(`reads ${type.name} to the last bit`, () => {
      const { data, values } = fixture.blocks[type.name]!;
      expect(dequantize(type, bytes(data))).toEqual(floats(values));
    });
  }
});

describe('a model', () => {
  it('gives the logits of an independent reader', async () => {
    const { config, weights } = await readGguf(modelFile);
    const { tokens, logits } = fixture.llama;
    const expected = floats(logits);
    const found = tf.tidy(() =>
      forward(config, toTensors(weights), tf.tensor2d([tokens], [1, tokens.length], 'int32')).dataSync(),
    );
    expect(found).toHaveLength(expected.length);
    found.forEach((value, index) => expect(Math.abs(value - expected[index]!)).toBeLessThan(1e-4));
  });
});

describe('a damaged file', () => {
  let folder: string;
  let whole: Buffer;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gguf-'));
    whole = await readFile(modelFile);
  });
  afterAll(() => rm(folder, { recursive: true }));

  const readingOf = async (content: Buffer): Promise<unknown> => {
    const file = join(folder, 'model.gguf');
    await writeFile(file, content);
    return readGguf(file);
  };
  const changed = (change: (copy: Buffer) => void): Buffer => {
    const copy = Buffer.from(whole);
    change(copy);
    return copy;
  };
  /** Place of the number of a tensor's type: after the name, the rank and two dimensions. */
  const typePlace = (name: string): number => whole.indexOf(name) + name.length + 4 + 16;

  it('is refused wherever its header is cut off', async () => {
    for (let size = 4; size < 1200; size += 97) {
      await expect(readingOf(whole.subarray(0, size))).rejects.toThrow(/truncated/);
    }
  });

  it.each([
    ['an empty file', () => Buffer.alloc(0), /does not start with GGUF/],
    ['another magic', () => changed((copy) => copy.write('GGML')), /does not start with GGUF/],
    ['an unknown version', () => changed((copy) => copy.writeUInt32LE(9, 4)), /version 9/],
    ['a cut tensor', () => whole.subarray(0, whole.length - 100), /truncated: tensor .* beyond the end/],
    [
      'an unknown type',
      () => changed((copy) => copy.writeUInt32LE(77, typePlace('token_embd.weight'))),
      /token_embd.weight has the unknown or unsupported type 77/,
    ],
    [
      'a count beyond the file',
      () => changed((copy) => copy.writeBigUInt64LE(1n << 40n, 8)),
      /truncated: its header is cut off/,
    ],
  ])('is refused for %s', async (_name, content, message) => {
    await expect(readingOf(content())).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    await expect(readingOf(content())).rejects.toThrow(message);
  });
});
