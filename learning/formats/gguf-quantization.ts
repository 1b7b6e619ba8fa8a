/**
 * @file Tensor types of GGUF files and their dequantisation to float32. Quantised rows are split into blocks of 32 or
 * 256 weights with scales of their own. Layouts: ggml-common.h and ggml-quants.c of https://github.com/ggml-org/ggml
 */

import { bfloatToFloat, halfToFloat } from './half-precision.ts';

export interface GgmlType {
  name: string;
  /** Elements of a block; a row holds whole blocks. */
  blockSize: number;
  /** Bytes of a block. */
  blockBytes: number;
  /** Decodes the block at `offset` of `data` to `out` from `start` on. */
  decode: (data: Buffer, offset: number, out: Float32Array, start: number) => void;
}

const f32: GgmlType = {
  name: 'F32',
  blockSize: 1,
  blockBytes: 4,
  decode: (data, offset, out, start) => {
    out[start] = data.readFloatLE(offset);
  },
};

const f16: GgmlType = {
  name: 'F16',
  blockSize: 1,
  blockBytes: 2,
  decode: (data, offset, out, start) => {
    out[start] = halfToFloat(data.readUInt16LE(offset));
  },
};

const bf16: GgmlType = {
  name: 'BF16',
  blockSize: 1,
  blockBytes: 2,
  decode: (data, offset, out, start) => {
    out[start] = bfloatToFloat(data.readUInt16LE(offset));
  },
};

/** Scale, 16 bytes of two numbers each: low halves are elements 0 to 15, high halves 16 to 31. */
const q4_0: GgmlType = {
  name: 'Q4_0',
  blockSize: 32,
  blockBytes: 18,
  decode: (data, offset, out, start) => {
    const scale = halfToFloat(data.readUInt16LE(offset));
    for (let index = 0; index < 16; index++) {
      const byte = data[offset + 2 + index] as number;
      out[start + index] = ((byte & 15) - 8) * scale;
      out[start + 16 + index] = ((byte >> 4) - 8) * scale;
    }
  },
};

/** As Q4_0, with a least value instead of a fixed offset. */
const q4_1: GgmlType = {
  name: 'Q4_1',
  blockSize: 32,
  blockBytes: 20,
  decode: (data, offset, out, start) => {
    const scale = halfToFloat(data.readUInt16LE(offset));
    const least = halfToFloat(data.readUInt16LE(offset + 2));
    for (let index = 0; index < 16; index++) {
      const byte = data[offset + 4 + index] as number;
      out[start + index] = (byte & 15) * scale + least;
      out[start + 16 + index] = (byte >> 4) * scale + least;
    }
  },
};

const q8_0: GgmlType = {
  name: 'Q8_0',
  blockSize: 32,
  blockBytes: 34,
  decode: (data, offset, out, start) => {
    const scale = halfToFloat(data.readUInt16LE(offset));
    for (let index = 0; index < 32; index++) out[start + index] = data.readInt8(offset + 2 + index) * scale;
  },
};

/**
 * Scale of scales, scale of least values, 12 bytes of eight 6-bit pairs of them, 128 bytes of 4-bit numbers. Each 32
 * bytes hold two groups of 32 elements: the low halves, then the high ones.
 */
const q4_k: GgmlType = {
  name: 'Q4_K',
  blockSize: 256,
  blockBytes: 144,
  decode: (data, offset, out, start) => {
    const scale = halfToFloat(data.readUInt16LE(offset));
    const leastScale = halfToFloat(data.readUInt16LE(offset + 2));
    const packed = (index: number): number => data[offset + 4 + index] as number;
    for (let group = 0; group < 8; group++) {
      const [factor, least] =
        group < 4
          ? [packed(group) & 63, packed(group + 4) & 63]
          : [
              (packed(group + 4) & 15) | ((packed(group - 4) >> 6) << 4),
              (packed(group + 4) >> 4) | ((packed(group) >> 6) << 4),
            ];
      const numbers = offset + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let index = 0; index < 32; index++) {
        const number = ((data[numbers + index] as number) >> shift) & 15;
        out[start + 32 * group + index] = scale * factor * number - leastScale * least;
      }
    }
  },
};

/**
 * 128 bytes of low 4 bits, 64 bytes of high 2 bits, 16 signed scales of 16 elements each, scale of scales. Each half of
 * the block has four groups of 32 elements: groups 0 and 1 in the low halves of the bytes, 2 and 3 in the high ones.
 */
const q6_k: GgmlType = {
  name: 'Q6_K',
  blockSize: 256,
  blockBytes: 210,
  decode: (data, offset, out, start) => {
    const scale = halfToFloat(data.readUInt16LE(offset + 208));
    for (let group = 0; group < 8; group++) {
      const [half, part] = [group >> 2, group & 3];
      const low = offset + 64 * half + 32 * (part & 1);
      const high = offset + 128 + 32 * half;
      for (let index = 0; index < 32; index++) {
        const four = ((data[low + index] as number) >> (4 * (part >> 1))) & 15;
        const two = ((data[high + index] as number) >> (2 * part)) & 3;
        const factor = data.readInt8(offset + 192 + 2 * group + (index >> 4));
        out[start + 32 * group + index] = scale * factor * ((four | (two << 4)) - 32);
      }
    }
  },
};

/** By the number that files hold. */
export const ggmlTypes: ReadonlyMap<number, GgmlType> = new Map([
  [0, f32],
  [1, f16],
  [2, q4_0],
  [3, q4_1],
  [8, q8_0],
  [12, q4_k],
  [14, q6_k],
  [30, bf16],
]);

/** Float32 values of whole blocks. */
export function dequantize(type: GgmlType, data: Buffer): Float32Array {
  const blocks = data.length / type.blockBytes;
  const out = new Float32Array(blocks * type.blockSize);
  for (let block = 0; block < blocks; block++) {
    type.decode(data, block * type.blockBytes, out, block * type.blockSize);
  }
  return out;
}
