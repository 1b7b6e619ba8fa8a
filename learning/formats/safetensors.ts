/**
 * @file safetensors files: 8 bytes header length (little endian), JSON header, raw data. Reads F32, F16, BF16 and I32;
 * writes F32. https://github.com/huggingface/safetensors
 */

import { open, type FileHandle } from 'node:fs/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { isRecord } from './json-reader.ts';
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

const areSizes = (values: unknown): values is number[] =>
  Array.isArray(values) && values.every((value) => Number.isSafeInteger(value) && value >= 0);

function isEntry(entry: unknown): entry is HeaderEntry {
  if (!isRecord(entry)) return false;
  const { dtype, shape, data_offsets: offsets } = entry;
  return typeof dtype === 'string' && areSizes(shape) && areSizes(offsets) && offsets.length === 2;
}

/** Bytes of a tensor in the data. */
function bytesOf(file: string, name: string, entry: HeaderEntry, dataSize: number): { start: number; length: number } {
  const reader = readers[entry.dtype] ?? damaged(file, `tensor ${name} has the unsupported type ${entry.dtype}`);
  const count = entry.shape.reduce((product, size) => product * size, 1);
  const [start, end] = entry.data_offsets;
  if (end - start !== count * reader.bytes || end > dataSize) {
    damaged(file, `the data of tensor ${name} does not fit its shape`);
  }
  return { start, length: end - start };
}

/** @param data bytes of a buffer of their own, which the result may keep */
function decode({ dtype }: HeaderEntry, data: Uint8Array): Float32Array {
  if (dtype === 'F32') return new Float32Array(data.buffer);
  const { bytes, read } = readers[dtype]!;
  const encoded = Buffer.from(data.buffer);
  const values = new Float32Array(data.length / bytes);
  for (let index = 0; index < values.length; index++) values[index] = read(encoded, index * bytes);
  return values;
}

export interface SafetensorsFile {
  tensors: HostTensors;
  metadata: Record<string, string>;
}

/** Whether a tensor is read, by its name. Others may be of any type. */
export type IsWanted = (name: string) => boolean;

/** The tensors of a file. @throws EpsilonflowError MODEL_INVALID when the file is missing or damaged. */
export const readSafetensors = async (file: string, isWanted?: IsWanted): Promise<HostTensors> =>
  (await readSafetensorsFile(file, isWanted)).tensors;

async function readHeader(
  file: string,
  handle: FileHandle,
): Promise<{ header: Record<string, unknown>; dataStart: number; dataSize: number }> {
  const { size } = await handle.stat();
  const prefix = Buffer.alloc(8);
  await handle.read(prefix, 0, 8, 0);
  const length = size >= 8 ? Number(prefix.readBigUInt64LE()) : Infinity;
  if (length > size - 8) return damaged(file, 'its header is cut off');
  const text = Buffer.alloc(length);
  await handle.read(text, 0, length, 8);
  let header: unknown;
  try {
    header = JSON.parse(text.toString('utf8'));
  } catch {
    return damaged(file, 'its header is not JSON');
  }
  if (!isRecord(header)) return damaged(file, 'its header is no JSON object');
  return { header, dataStart: 8 + length, dataSize: size - 8 - length };
}

/**
 * A file with its metadata. Tensors are read one after the other, so that a file may be larger than a buffer can be.
 *
 * @throws EpsilonflowError MODEL_INVALID when the file is missing or damaged.
 */
export async function readSafetensorsFile(file: string, isWanted: IsWanted = () => true): Promise<SafetensorsFile> {
  const handle = await open(file, 'r').catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_INVALID', `The weight file ${file} cannot be read.`, {
      hint: 'Fetch it, and let this user read it.',
      cause,
    });
  });
  try {
    const { header, dataStart, dataSize } = await readHeader(file, handle);
    const tensors: HostTensors = {};
    for (const [name, entry] of Object.entries(header)) {
      if (name === '__metadata__' || !isWanted(name)) continue;
      if (!isEntry(entry)) return damaged(file, `its header does not say what tensor ${name} is`);
      const { start, length } = bytesOf(file, name, entry, dataSize);
      const data = new Uint8Array(length);
      const { bytesRead } = await handle.read(data, 0, length, dataStart + start);
      if (bytesRead !== length) damaged(file, `it is cut off in tensor ${name}`);
      tensors[name] = { shape: entry.shape, values: decode(entry, data) };
    }
    return { tensors, metadata: (header['__metadata__'] ?? {}) as Record<string, string> };
  } finally {
    await handle.close();
  }
}

/** Writes float32 tensors; equal tensors give equal bytes. */
export async function writeSafetensors(
  file: string,
  tensors: HostTensors,
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  // Readers that map the file want the data aligned to 8 bytes.
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const handle = await open(file, 'w');
  try {
    await handle.writeFile(length);
    await handle.writeFile(padded);
    for (const { values } of Object.values(tensors)) {
      await handle.writeFile(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  } finally {
    await handle.close();
  }
}
