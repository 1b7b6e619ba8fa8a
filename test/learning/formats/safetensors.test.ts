import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { readSafetensors, readSafetensorsFile, writeSafetensors } from '../../../learning/formats/safetensors.ts';

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
  file = join(folder, 'weights.safetensors');
});
afterAll(() => rm(folder, { recursive: true }));

const tensors = {
  matrix: { shape: [2, 3], values: Float32Array.of(1, -2, 3.5, 4e-8, -0, 6) },
  scalar: { shape: [], values: Float32Array.of(7) },
  // Part of a larger buffer.
  vector: { shape: [2], values: new Float32Array([9, 8, 7]).subarray(1) },
};

const fileOf = (header: unknown, data: Buffer): Buffer => {
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
};

/** A file of one tensor of the given type. */
const single = (dtype: string, shape: number[], data: Buffer): Buffer =>
  fileOf({ only: { dtype, shape, data_offsets: [0, data.length] } }, data);

/** A file of four bytes of data, whose one tensor is described so. */
const described = (entry: unknown): Buffer => fileOf({ only: entry }, Buffer.alloc(4));

describe('a file of tensors', () => {
  it('comes back as it was written, its data at a multiple of eight bytes', async () => {
    await writeSafetensors(file, tensors, { made: 'here' });
    expect(await readSafetensorsFile(file)).toEqual({ tensors, metadata: { made: 'here' } });
    const bytes = await readFile(file);
    expect(Number(bytes.readBigUInt64LE()) % 8).toBe(0);
    const before = bytes.toString('hex');
    await writeSafetensors(file, tensors, { made: 'here' });
    expect((await readFile(file)).toString('hex')).toBe(before);
    expect((await stat(file)).size).toBe(8 + Number(bytes.readBigUInt64LE()) + 4 * 9);
  });

  it('may hold halves, bfloats and integers', async () => {
    const halves = Buffer.from([0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00]);
    await writeFile(file, single('F16', [3], halves));
    expect((await readSafetensors(file))['only']!.values).toEqual(Float32Array.of(1, -2, 2 ** -24));
    await writeFile(file, single('BF16', [2, 1], Buffer.from([0x80, 0x3f, 0x20, 0xc0])));
    expect((await readSafetensors(file))['only']).toEqual({ shape: [2, 1], values: Float32Array.of(1, -2.5) });
    await writeFile(file, single('I32', [1], Buffer.from([0xfe, 0xff, 0xff, 0xff])));
    expect((await readSafetensors(file))['only']!.values).toEqual(Float32Array.of(-2));
  });

  it.each([
    ['nothing', Buffer.alloc(0), /its header is cut off/],
    ['a header that is cut off', single('F32', [1], Buffer.alloc(4)).subarray(0, 30), /its header is cut off/],
    ['a header that is no JSON', Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{]')]), /not JSON/],
    ['data that are cut off', single('F32', [2], Buffer.alloc(8)).subarray(0, -1), /does not fit its shape/],
    ['another shape', single('F32', [3], Buffer.alloc(8)), /does not fit its shape/],
    ['a type that is not known', single('F8_E4M3', [8], Buffer.alloc(8)), /unsupported type F8_E4M3/],
    ['the header null', fileOf(null, Buffer.alloc(4)), /header is no JSON object/],
    ['a list as header', fileOf([], Buffer.alloc(4)), /header is no JSON object/],
    ['nothing said of a tensor', described(null), /does not say what tensor only is/],
    ['no place of the data', described({ dtype: 'F32', shape: [1] }), /does not say what tensor only is/],
    ['half a place', described({ dtype: 'F32', shape: [1], data_offsets: [0] }), /does not say what tensor only is/],
    ['no shape', described({ dtype: 'F32', data_offsets: [0, 4] }), /does not say what tensor only is/],
    ['no type', described({ shape: [1], data_offsets: [0, 4] }), /does not say what tensor only is/],
    ['negative sizes', single('F32', [-1, -1], Buffer.alloc(4)), /does not say what tensor only is/],
    ['parts of elements', single('F32', [0.5, 2], Buffer.alloc(4)), /does not say what tensor only is/],
    [
      'data before their beginning',
      described({ dtype: 'F32', shape: [1], data_offsets: [-4, 0] }),
      /does not say what tensor only is/,
    ],
  ])('is refused with %s', async (_name, content, message) => {
    await writeFile(file, content);
    await expect(readSafetensors(file)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      hint: expect.stringMatching(/again/) as string,
    });
    await expect(readSafetensors(file)).rejects.toThrow(message);
  });

  it('is read without what is not wanted, whatever its type', async () => {
    const data = Buffer.concat([Buffer.alloc(8, 1), Buffer.from([0, 0, 0x80, 0x3f])]);
    const entry = (dtype: string, shape: number[], from: number, to: number) => ({
      dtype,
      shape,
      data_offsets: [from, to],
    });
    await writeFile(file, fileOf({ ids: entry('I64', [1], 0, 8), own: entry('F32', [1], 8, 12) }, data));
    const wanted = await readSafetensors(file, (name) => name !== 'ids');
    expect(wanted).toEqual({ own: { shape: [1], values: Float32Array.of(1) } });
    await expect(readSafetensors(file)).rejects.toThrow(/ids has the unsupported type I64/);
  });

  it('is refused when it is missing', async () => {
    await expect(readSafetensors(join(folder, 'absent'))).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      hint: expect.any(String) as string,
    });
  });
});
