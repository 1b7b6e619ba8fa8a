/**
 * @file safetensors files: 8 bytes header length (little endian), JSON header, raw data. Reads F32, F16, BF16 and I32;
 * writes F32. https://github.com/huggingface/safetensors
 */

import { readFile, writeFile } from 'node:fs/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { bfloatToFloat, halfToFloat } from './half-precision.ts';

/** A tensor in host memory. */
export interface HostTensor {
  shape: number[];
  values: Float32Array;
}

export type HostTensors = Record<string, HostTensor>;

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const damaged = (file: string, what: string): never => {
  throw new EpsilonflowError('MODEL_INVALID', `${file} is not a readable safetensors file: ${what}.`, {
    hint: 'Fetch or write the file again.',
  });
};

/** Bytes an element and how to read it. */
const readers: Record<string, { bytes: number; read: (data: Buffer, offset: number) => number }> = {
  F32: { bytes: 4, read: (data, offset) => data.readFloatLE(offset) },
  F16: { bytes: 2, read: (data, offset) => halfToFloat(data.readUInt16LE(offset)) },
  BF16: { bytes: 2, read: (data, offset) => bfloatToFloat(data.readUInt16LE(offset)) },
  I32: { bytes: 4, read: (data, offset) => data.readInt32LE(offset) },
};

function decode(file: string, name: string, entry: HeaderEntry, data: Buffer): Float32Array {
  const reader = readers[entry.dtype] ?? damaged(file, `tensor ${name} has the unsupported type ${entry.dtype}`);
  const count = entry.shape.reduce((product, size) => product * size, 1);
  const [start, end] = entry.data_offsets;
  if (end - start !== count * reader.bytes || start < 0 || end > data.length) {
    damaged(file, `the data of tensor ${name} does not fit its shape`);
  }
  const values = new Float32Array(count);
  if (entry.dtype === 'F32') {
    new Uint8Array(values.buffer).set(data.subarray(start, end));
  } else {
    for (let index = 0; index < count; index++) values[index] = reader.read(data, start + index * reader.bytes);
  }
  return values;
}

export interface SafetensorsFile {
  tensors: HostTensors;
  metadata: Record<string, string>;
}

/** The tensors of a file. @throws EpsilonflowError MODEL_INVALID when the file is missing or damaged. */
export const readSafetensors = async (file: string): Promise<HostTensors> => (await readSafetensorsFile(file)).tensors;

/** A file with its metadata. @throws EpsilonflowError MODEL_INVALID when the file is missing or damaged. */
export async function readSafetensorsFile(file: string): Promise<SafetensorsFile> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_INVALID', `The weight file ${file} cannot be read.`, { cause });
  });
  const headerLength = bytes.length >= 8 ? Number(bytes.readBigUInt64LE(0)) : Infinity;
  if (headerLength > bytes.length - 8) damaged(file, 'its header is cut off');
  let header: Record<string, HeaderEntry>;
  try {
    header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Record<string, HeaderEntry>;
  } catch {
    return damaged(file, 'its header is not JSON');
  }
  const data = bytes.subarray(8 + headerLength);
  const tensors: HostTensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    tensors[name] = { shape: entry.shape, values: decode(file, name, entry, data) };
  }
  return { tensors, metadata: (header['__metadata__'] ?? {}) as unknown as Record<string, string> };
}

/** Writes float32 tensors; equal tensors give equal bytes. */
export async function writeSafetensors(
  file: string,
  tensors: HostTensors,
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  const parts: Uint8Array[] = [];
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
    parts.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  // Readers that map the file want the data aligned to 8 bytes.
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  await writeFile(file, Buffer.concat([length, padded, ...parts]));
}
