/**
 * @file Records as token sequences, and batches of them as microbatches of fixed shapes.
 *
 * A sequence is the start token, the prefix, the text and the end-of-text token; loss is taken on text and end-of-text,
 * and where the objective says so on the prefix.
 * Which shape a record falls into depends on its own length only, and the shapes on the spec's `sequence` only.
 */

import type { FinetuneParams } from '../../schemas/step-params.ts';

export interface EncodedRecord {
  /** Start token first. */
  tokens: Int32Array;
  /** Number of tokens at the front that are given, not predicted: start token and, mostly, prefix. */
  given: number;
  /** Place after the last token whose hidden state counts; absent: the last that is read counts. */
  end?: number;
  /** What the sum of the losses of its tokens is divided by. */
  divisor: number;
  /** Class index, 0 when there is none. */
  label: number;
}

/** What an example's loss is. */
export type LossSettings = Pick<FinetuneParams, 'objective' | 'lossDivisor'>;

const usualLoss: LossSettings = { objective: 'prefix-lm', lossDivisor: 'tokens' };

/**
 * Puts a sequence together. At most `sequence` tokens follow the start token; a longer text is cut and then has no
 * end-of-text, since it did not end there.
 */
export function encodeRecord(
  parts: { bosId: number; eosId: number; prefix: Int32Array; text: Int32Array; label: number },
  sequence: number,
  { objective, lossDivisor }: LossSettings = usualLoss,
): EncodedRecord {
  const { bosId, eosId, prefix, text, label } = parts;
  const following = [...prefix, ...text, eosId].slice(0, sequence);
  const given = objective === 'full-lm' ? 1 : 1 + prefix.length;
  const predicted = Math.max(1, 1 + following.length - given);
  const divisor = lossDivisor === 'tokens' ? predicted : lossDivisor;
  return { tokens: Int32Array.from([bosId, ...following]), given, divisor, label: Math.max(0, label) };
}

/** Number of predicted positions that a record takes up. */
const lengthOf = (record: EncodedRecord): number => record.tokens.length - 1;

/**
 * Lengths that sequences are padded to: at most six, multiples of 8, the longest not below `sequence`. Short ones share a
 * length, since each costs a compilation and, in each logical batch, a partly filled microbatch.
 */
export function bucketLengths(sequence: number): number[] {
  const stride = 8 * Math.max(1, Math.ceil(sequence / 48));
  const longest = stride * Math.ceil(sequence / stride);
  const lengths: number[] = [];
  for (let length = longest; length >= Math.max(stride, longest / 3); length -= stride) lengths.unshift(length);
  return lengths;
}

/** Tokens of a microbatch, about: small enough for caches, large enough for the cost of a call. */
export const microbatchTokens = 1536;

export interface MicrobatchShape {
  rows: number;
  time: number;
}

export interface Microbatch {
  shape: MicrobatchShape;
  /** [rows, time + 1] */
  tokens: Int32Array;
  /** [rows, time]: 1 / divisor of the row where a token is predicted. */
  lossWeights: Float32Array;
  labels: Int32Array;
  present: Float32Array;
}

/** A microbatch of these rows; null, and what is missing, is an empty row. */
export function fillMicrobatch(
  shape: MicrobatchShape,
  records: readonly (EncodedRecord | null)[],
  padId: number,
): Microbatch {
  const { rows, time } = shape;
  const tokens = new Int32Array(rows * (time + 1)).fill(padId);
  const lossWeights = new Float32Array(rows * time);
  const labels = new Int32Array(rows);
  const present = new Float32Array(rows);
  records.forEach((record, row) => {
    if (record === null) return;
    tokens.set(record.tokens, row * (time + 1));
    const [first, end] = [record.given - 1, record.end ?? lengthOf(record)];
    if (first < end) lossWeights.fill(1 / record.divisor, row * time + first, row * time + end);
    labels[row] = record.label;
    present[row] = 1;
  });
  return { shape, tokens, lossWeights, labels, present };
}

/** The examples of a microbatch, each in a microbatch of one row. */
export function singleRows({ shape, ...batch }: Microbatch): Microbatch[] {
  const { time } = shape;
  return Array.from(batch.present.keys())
    .filter((row) => batch.present[row] === 1)
    .map((row) => ({
      shape: { rows: 1, time },
      tokens: batch.tokens.slice(row * (time + 1), (row + 1) * (time + 1)),
      lossWeights: batch.lossWeights.slice(row * time, (row + 1) * time),
      labels: batch.labels.slice(row, row + 1),
      present: batch.present.slice(row, row + 1),
    }));
}

/**
 * Cuts a logical batch into microbatches: by bucket, in a bucket by length and then by index, padded with empty rows.
 *
 * @param drawn indices into `records`
 */
export function microbatches(
  records: readonly EncodedRecord[],
  drawn: Int32Array,
  shapes: readonly MicrobatchShape[],
  padId: number,
): Microbatch[] {
  const lengthAt = (index: number): number => lengthOf(records[index] as EncodedRecord);
  const ordered = Array.from(drawn).sort((a, b) => lengthAt(a) - lengthAt(b) || a - b);
  const result: Microbatch[] = [];
  let next = 0;
  for (const shape of shapes) {
    let end = next;
    while (end < ordered.length && lengthAt(ordered[end] as number) <= shape.time) end++;
    for (; next < end; next += shape.rows) {
      const rows = ordered.slice(next, Math.min(end, next + shape.rows));
      result.push(
        fillMicrobatch(
          shape,
          rows.map((index) => records[index] as EncodedRecord),
          padId,
        ),
      );
    }
    next = end;
  }
  return result;
}
