import { describe, expect, it } from 'vitest';
import { bucketLengths, encodeRecord, microbatches } from '../../learning/dp/sequences.ts';

const parts = { bosId: 9, eosId: 9, prefix: Int32Array.of(5, 6), label: 1 };
const ids = (...values: number[]): Int32Array => Int32Array.from(values);

describe('sequences', () => {
  it('hold start, prefix, text and end', () => {
    const record = encodeRecord({ ...parts, text: ids(1, 2) }, 8);
    expect(Array.from(record.tokens)).toEqual([9, 5, 6, 1, 2, 9]);
    expect(record.given).toBe(3);
  });

  it('of an empty text predict the end only', () => {
    const [batch] = microbatches([encodeRecord({ ...parts, text: ids() }, 8)], ids(0), [{ rows: 1, time: 8 }], 0);
    expect(Array.from(batch!.lossWeights)).toEqual([0, 0, 1, 0, 0, 0, 0, 0]);
  });

  it('predict their prefix too where the objective says so', () => {
    const loss = { objective: 'full-lm', lossDivisor: 'tokens' } as const;
    const record = encodeRecord({ ...parts, text: ids(1, 2) }, 8, loss);
    const [batch] = microbatches([record], ids(0), [{ rows: 1, time: 8 }], 0);
    expect(Array.from(batch!.lossWeights)).toEqual([...Array<number>(5).fill(Math.fround(0.2)), 0, 0, 0]);
  });

  it('have the sum of their losses over a constant where the spec says so', () => {
    const loss = { objective: 'prefix-lm', lossDivisor: 4 } as const;
    const records = [ids(1, 2), ids(1)].map((text) => encodeRecord({ ...parts, text }, 8, loss));
    const [batch] = microbatches(records, ids(0, 1), [{ rows: 2, time: 8 }], 0);
    const quarters = (count: number): number[] => [0, 0, ...Array<number>(count).fill(0.25)];
    expect(Array.from(batch!.lossWeights)).toEqual([...quarters(2), 0, 0, 0, 0, ...quarters(3), 0, 0, 0]);
  });

  it('are cut at the longest length, and then have no end', () => {
    expect(Array.from(encodeRecord({ ...parts, text: ids(1, 2, 3, 4) }, 5).tokens)).toEqual([9, 5, 6, 1, 2, 3]);
  });
});

describe('microbatches', () => {
  it('have shapes that depend on the longest sequence only', () => {
    expect(bucketLengths(48)).toEqual([16, 24, 32, 40, 48]);
    expect(bucketLengths(8)).toEqual([8]);
    expect(bucketLengths(20)).toEqual([8, 16, 24]);
    for (const sequence of [1, 30, 100, 512]) {
      const lengths = bucketLengths(sequence);
      expect(lengths.length).toBeLessThanOrEqual(6);
      expect(lengths.at(-1)).toBeGreaterThanOrEqual(sequence);
      expect(lengths.every((length) => length % 8 === 0)).toBe(true);
    }
  });

  it('hold every drawn record once, sorted by length then index, with mean loss over text tokens', () => {
    const records = [4, 1, 9, 1, 4, 4].map((length, label) =>
      encodeRecord({ ...parts, prefix: ids(), text: ids(...Array<number>(length).fill(length)), label: label % 2 }, 16),
    );
    const shapes = [
      { rows: 2, time: 8 },
      { rows: 2, time: 16 },
    ];
    const batches = microbatches(records, ids(0, 1, 2, 3, 4, 5), shapes, 7);
    expect(batches.map(({ shape, present }) => [shape.time, Array.from(present)])).toEqual([
      [8, [1, 1]],
      [8, [1, 1]],
      [8, [1, 0]],
      [16, [1, 0]],
    ]);
    expect(Array.from(batches[0]!.labels)).toEqual([1, 1]);
    expect(Array.from(batches[2]!.tokens)).toEqual([9, 4, 4, 4, 4, 9, 7, 7, 7, ...Array<number>(9).fill(7)]);
    for (const { lossWeights, present, shape } of batches) {
      for (let row = 0; row < shape.rows; row++) {
        const sum = lossWeights.slice(row * shape.time, (row + 1) * shape.time).reduce((a, b) => a + b, 0);
        expect(sum).toBeCloseTo(present[row] as number, 6);
      }
    }
  });

  it('of an empty batch are none', () => {
    expect(microbatches([], ids(), [{ rows: 2, time: 48 }], 0)).toEqual([]);
  });
});
