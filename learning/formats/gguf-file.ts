/**
 * @file GGUF files, versions 2 and 3 (little endian): magic, counts, metadata, tensor directory, aligned data. Tensors
 * are read by offset, one at a time. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */

import { readSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { dequantize, ggmlTypes, type GgmlType } from './gguf-quantization.ts';
import type { HostTensor } from './safetensors.ts';

/** 64-bit integers are numbers: those beyond 2^53 are refused. */
export type GgufValue = number | boolean | string | GgufValue[];

interface TensorEntry {
  name: string;
  /** Slowest dimension first, as in Hugging Face files. */
  shape: number[];
  type: GgmlType;
  /** Bytes from the start of the file. */
  offset: number;
  bytes: number;
}

export class GgufFault extends EpsilonflowError {
  constructor(file: string, what: string, cause?: unknown) {
    super('MODEL_INVALID', `${file} is not a readable GGUF file: ${what}.`, {
      hint: 'Fetch or write the file again, with tensors of the types F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K.',
      cause,
    });
  }
}

const chunkBytes = 1 << 20;

/** Reads a file from its start on, in chunks. */
class Cursor {
  position = 0;
  private chunk: Buffer = Buffer.alloc(0);
  private chunkStart = 0;
  private readonly file: string;
  private readonly descriptor: number;
  private readonly size: number;

  constructor(file: string, descriptor: number, size: number) {
    this.file = file;
    this.descriptor = descriptor;
    this.size = size;
  }

  fault(what: string): never {
    throw new GgufFault(this.file, what);
  }

  /** Refuses counts that the rest of the file can't hold, before memory is taken for them. */
  expect(count: number, bytesEach: number): void {
    if (count * bytesEach > this.size - this.position) this.fault('it is truncated: its header is cut off');
  }

  take(count: number): Buffer {
    this.expect(count, 1);
    let start = this.position - this.chunkStart;
    if (start + count > this.chunk.length) {
      const wanted = Math.min(Math.max(count, chunkBytes), this.size - this.position);
      this.chunk = Buffer.alloc(wanted);
      if (readSync(this.descriptor, this.chunk, 0, wanted, this.position) !== wanted) this.fault('it is truncated');
      this.chunkStart = this.position;
      start = 0;
    }
    this.position += count;
    return this.chunk.subarray(start, start + count);
  }

  uint32(): number {
    return this.take(4).readUInt32LE();
  }

  integer(bytes: Buffer, value: bigint): number {
    return Number.isSafeInteger(Number(value)) ? Number(value) : this.fault(`${bytes.toString('hex')} is too large`);
  }

  uint64(): number {
    const bytes = this.take(8);
    return this.integer(bytes, bytes.readBigUInt64LE());
  }

  string(): string {
    return this.take(this.uint64()).toString('utf8');
  }
}

const arrayType = 9;

/** Least bytes of a value, and how it is read, by the number of its type. */
const valueTypes: ReadonlyMap<number, { bytes: number; read: (cursor: Cursor) => GgufValue }> = new Map([
  [0, { bytes: 1, read: (cursor: Cursor) => cursor.take(1).readUInt8() }],
  [1, { bytes: 1, read: (cursor: Cursor) => cursor.take(1).readInt8() }],
  [2, { bytes: 2, read: (cursor: Cursor) => cursor.take(2).readUInt16LE() }],
  [3, { bytes: 2, read: (cursor: Cursor) => cursor.take(2).readInt16LE() }],
  [4, { bytes: 4, read: (cursor: Cursor) => cursor.uint32() }],
  [5, { bytes: 4, read: (cursor: Cursor) => cursor.take(4).readInt32LE() }],
  [6, { bytes: 4, read: (cursor: Cursor) => cursor.take(4).readFloatLE() }],
  [7, { bytes: 1, read: (cursor: Cursor) => cursor.take(1).readUInt8() !== 0 }],
  [8, { bytes: 8, read: (cursor: Cursor) => cursor.string() }],
  [arrayType, { bytes: 12, read: readArray }],
  [10, { bytes: 8, read: (cursor: Cursor) => cursor.uint64() }],
  [
    11,
    {
      bytes: 8,
      read: (cursor: Cursor) => {
        const bytes = cursor.take(8);
        return cursor.integer(bytes, bytes.readBigInt64LE());
      },
    },
  ],
  [12, { bytes: 8, read: (cursor: Cursor) => cursor.take(8).readDoubleLE() }],
]);

function readArray(cursor: Cursor): GgufValue[] {
  const number = cursor.uint32();
  const type = valueTypes.get(number);
  if (!type || number === arrayType) return cursor.fault(`its metadata hold an array of the unknown type ${number}`);
  const count = cursor.uint64();
  cursor.expect(count, type.bytes);
  return Array.from({ length: count }, () => type.read(cursor));
}

function readMetadata(cursor: Cursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = cursor.string();
    const number = cursor.uint32();
    const type = valueTypes.get(number) ?? cursor.fault(`${key} has the unknown type ${number}`);
    metadata.set(key, type.read(cursor));
  }
  return metadata;
}

/** Offsets count from the start of the data. */
function readDirectory(cursor: Cursor, count: number): TensorEntry[] {
  return Array.from({ length: count }, () => {
    const name = cursor.string();
    const rank = cursor.uint32();
    if (rank > 4) cursor.fault(`tensor ${name} has ${rank} dimensions`);
    const shape = Array.from({ length: rank }, () => cursor.uint64()).reverse();
    const number = cursor.uint32();
    const type = ggmlTypes.get(number) ?? cursor.fault(`tensor ${name} has the unknown or unsupported type ${number}`);
    const offset = cursor.uint64();
    if ((shape.at(-1) ?? 1) % type.blockSize !== 0) {
      cursor.fault(`rows of tensor ${name} do not consist of whole blocks of ${type.name}`);
    }
    const elements = shape.reduce((product, size) => product * size, 1);
    return { name, shape, type, offset, bytes: (elements / type.blockSize) * type.blockBytes };
  });
}

/** An open file: its metadata, and its tensors on request. */
export class GgufFile {
  readonly file: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  private readonly handle: FileHandle;
  private readonly entries: ReadonlyMap<string, TensorEntry>;

  private constructor(file: string, handle: FileHandle, size: number) {
    const cursor = new Cursor(file, handle.fd, size);
    if (size < 4 || cursor.take(4).toString('latin1') !== 'GGUF') cursor.fault('it does not start with GGUF');
    const version = cursor.uint32();
    if (version !== 2 && version !== 3) cursor.fault(`version ${version} is not supported, only 2 and 3`);
    const tensors = cursor.uint64();
    const pairs = cursor.uint64();
    // A tensor's entry takes 24 bytes, a metadata pair 13 at least.
    cursor.expect(1, 24 * tensors + 13 * pairs);
    this.file = file;
    this.handle = handle;
    this.metadata = readMetadata(cursor, pairs);
    const directory = readDirectory(cursor, tensors);
    const alignment = this.metadata.get('general.alignment') ?? 32;
    if (typeof alignment !== 'number' || !Number.isInteger(alignment) || alignment < 1) {
      throw new GgufFault(file, 'general.alignment is not a positive integer');
    }
    const dataStart = Math.ceil(cursor.position / alignment) * alignment;
    for (const entry of directory) {
      entry.offset += dataStart;
      if (entry.offset + entry.bytes > size) {
        cursor.fault(`it is truncated: tensor ${entry.name} reaches beyond the end of the file`);
      }
    }
    this.entries = new Map(directory.map((entry) => [entry.name, entry]));
  }

  /** @throws EpsilonflowError MODEL_INVALID when the file is missing, damaged, or of unknown types. */
  static async open(file: string): Promise<GgufFile> {
    const handle = await open(file, 'r').catch((cause: unknown) => {
      throw new EpsilonflowError('MODEL_INVALID', `The weight file ${file} cannot be read.`, {
        hint: 'Fetch it, and let this user read it.',
        cause,
      });
    });
    try {
      return new GgufFile(file, handle, (await handle.stat()).size);
    } catch (cause) {
      await handle.close();
      throw cause;
    }
  }

  get tensorNames(): string[] {
    return [...this.entries.keys()];
  }

  /** A tensor's values as float32. Memory beyond them: its bytes in the file. */
  async tensor(name: string): Promise<HostTensor> {
    const entry = this.entries.get(name);
    if (!entry) throw new GgufFault(this.file, `it has no tensor ${name}`);
    const data = Buffer.alloc(entry.bytes);
    const { bytesRead } = await this.handle.read(data, 0, entry.bytes, entry.offset);
    if (bytesRead !== entry.bytes) throw new GgufFault(this.file, `it is truncated in tensor ${name}`);
    return { shape: entry.shape, values: dequantize(entry.type, data) };
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}
