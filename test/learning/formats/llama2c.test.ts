import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { readLlama2c } from '../../../learning/formats/llama2c.ts';

let file: string;
beforeAll(async () => {
  file = join(await mkdtemp(join(tmpdir(), 'llama2c-')), 'model.bin');
});
afterAll(() => rm(join(file, '..'), { recursive: true }));

/** dim, hidden, layers, heads, key heads, vocabulary, context */
const sizes = [4, 6, 1, 2, 1, 5, 3];
/** Embedding, attention (norm, q, k, v, o), feed-forward (norm, three matrices), last norm, angles. */
const floats = 5 * 4 + (4 + 16 + 8 + 8 + 16) + (4 + 3 * 24) + 4 + 3 * 2;

const checkpoint = (header: readonly number[], count: number): Buffer =>
  Buffer.concat([Buffer.from(Int32Array.from(header).buffer), Buffer.alloc(4 * count)]);

const untied = sizes.map((size, at) => (at === 5 ? -size : size));

describe('a checkpoint of llama2.c', () => {
  it('is read, with a head of its own or without', async () => {
    await writeFile(file, checkpoint(sizes, floats));
    const { config, weights } = await readLlama2c(file);
    expect(config).toMatchObject({ dim: 4, vocab: 5, tied: true });
    expect(weights['model.layers.0.self_attn.k_proj.weight']!.shape).toEqual([2, 4]);
    await writeFile(file, checkpoint(untied, floats + 20));
    expect((await readLlama2c(file)).weights['lm_head.weight']!.shape).toEqual([5, 4]);
  });

  it.each([
    ['nothing', Buffer.alloc(0), /its header is cut off/],
    ['ten bytes', Buffer.alloc(10, 1), /its header is cut off/],
    ['a number too few', checkpoint(sizes, floats - 1), /has 656 bytes, 660 by its header/],
    ['a number too many', checkpoint(sizes, floats + 1), /has 664 bytes, 660 by its header/],
    ['no head that the header promises', checkpoint(untied, floats), /has 660 bytes, 740 by its header/],
    ['enormous sizes', checkpoint([2 ** 24, 2 ** 24, 2 ** 24, 1, 1, 2 ** 24, 1], 10), /has 68 bytes, .* by its header/],
    ['no sizes', checkpoint([0, 0, 0, 0, 0, 0, 0], 1), /dim must be a positive integer/],
  ])('is refused with %s', async (_, content, message) => {
    await writeFile(file, content);
    await expect(readLlama2c(file)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      hint: expect.stringMatching(/./) as string,
    });
    await expect(readLlama2c(file)).rejects.toThrow(message);
  });
});
