/**
 * @file Documents to fixed rows of tokens for pre-training. Documents follow each other in one stream, an end-of-text
 * token before each, and the stream is cut into rows; which row a step trains on depends on the seed and the step only,
 * so training can resume at any step.
 */

import { type KeyedStream, seededStream } from '../../privacy/noise.ts';
import type { Tokenizer } from '../tokenizer/index.ts';

/** Fisher-Yates shuffle of 0..count-1. */
function permutation(stream: KeyedStream, count: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(stream.uniform() * (last + 1));
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}

/**
 * Sets documents aside for validation: a share of them, at least one, drawn by the seed. Both parts come shuffled.
 *
 * @param share between 0 and 1.
 */
export function holdOut<T>(documents: readonly T[], share: number, seed: number): { training: T[]; heldOut: T[] } {
  const shuffled = Array.from(permutation(seededStream(seed, 'held-out documents'), documents.length), (index) => {
    return documents[index]!;
  });
  const count = Math.min(documents.length - 1, Math.max(1, Math.round(documents.length * share)));
  return { training: shuffled.slice(count), heldOut: shuffled.slice(0, count) };
}

/** A stream of documents and its length as text. */
export interface TokenStream {
  tokens: Int32Array;
  /** UTF-8 bytes of the documents, the end-of-text tokens not counted. */
  bytes: number;
}

/** Joins documents: `eos text eos text ... eos`. */
export function packDocuments(tokenizer: Tokenizer, documents: Iterable<string>): TokenStream {
  let tokens = new Int32Array(1 << 16);
  let length = 0;
  let bytes = 0;
  const append = (ids: ArrayLike<number>): void => {
    if (length + ids.length > tokens.length) {
      const grown = new Int32Array(2 * (length + ids.length));
      grown.set(tokens.subarray(0, length));
      tokens = grown;
    }
    tokens.set(ids, length);
    length += ids.length;
  };
  append([tokenizer.bosId]);
  for (const text of documents) {
    append(tokenizer.encode(text));
    append([tokenizer.eosId]);
    bytes += Buffer.byteLength(text, 'utf8');
  }
  return { tokens: tokens.slice(0, length), bytes };
}

/** One batch: `rows` rows of `sequence + 1` tokens (the last is only predicted) and the weight of each prediction. */
export interface PackedBatch {
  /** [rows, sequence + 1] */
  tokens: Int32Array;
  /** [rows, sequence]: 1, or 0 where the stream had ended. */
  mask: Float32Array;
}

/** Copies rows of a stream into a batch; rows beyond the end, and the rest of the last one, are masked. */
export function takeRows(stream: Int32Array, rows: ArrayLike<number>, sequence: number): PackedBatch {
  const tokens = new Int32Array(rows.length * (sequence + 1));
  const mask = new Float32Array(rows.length * sequence);
  for (let at = 0; at < rows.length; at++) {
    const start = rows[at]! * sequence;
    const piece = stream.subarray(start, start + sequence + 1);
    tokens.set(piece, at * (sequence + 1));
    mask.fill(1, at * sequence, at * sequence + Math.max(0, piece.length - 1));
  }
  return { tokens, mask };
}

/** Number of rows of a stream, the last perhaps not full. */
export const rowCount = (stream: Int32Array, sequence: number): number => Math.ceil((stream.length - 1) / sequence);

/** Draws the rows of each training step: passes over all rows, each in a new order. */
export class RowSampler {
  private readonly rows: number;
  private readonly batch: number;
  private readonly seed: number;
  private pass = -1;
  private order: Int32Array = new Int32Array(0);

  constructor(rows: number, batch: number, seed: number) {
    this.rows = rows;
    this.batch = batch;
    this.seed = seed;
  }

  /** Rows of a step, steps counted from 0. */
  rowsOf(step: number): Int32Array {
    return Int32Array.from({ length: this.batch }, (_, index) => {
      const drawn = step * this.batch + index;
      const pass = Math.floor(drawn / this.rows);
      if (pass !== this.pass) {
        this.order = permutation(seededStream(this.seed, `rows of pass ${pass}`), this.rows);
        this.pass = pass;
      }
      return this.order[drawn % this.rows]!;
    });
  }
}
