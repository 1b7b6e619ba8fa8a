import { afterAll, describe, expect, it, vi } from 'vitest';
import { disposeTree } from '../../learning/compile/index.ts';
import { weightShapes, type DecoderConfig } from '../../learning/decoder/config.ts';
import { flatLogits } from '../../learning/decoder/forward.ts';
import { crossEntropy } from '../../learning/decoder/loss.ts';
import { compileFullGradient, type FullGradient } from '../../learning/dp/book-keeping.ts';
import { microbatchTensors } from '../../learning/dp/gradients.ts';
import { encodeRecord, fillMicrobatch, type EncodedRecord, type Microbatch } from '../../learning/dp/sequences.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { smallConfig, smallGpt2, smallWeights } from './small-model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

/** Square matrices of 16 have small products, those of the feed-forward and the head are met by ghost norms. */
const shape = { rows: 5, time: 12 };
const tied: DecoderConfig = { ...smallConfig, tied: true };

/** Records of different lengths with a prefix of two tokens; tokens repeat within a record. */
const records: EncodedRecord[] = (() => {
  const stream = seededStream(8, 'test records');
  const id = (): number => 2 + Math.floor(stream.uniform() * 9);
  return Array.from({ length: shape.rows }, (_, index) => {
    const text = Int32Array.from({ length: 1 + index * 3 }, id);
    return encodeRecord({ bosId: 1, eosId: 1, prefix: Int32Array.of(id(), id()), text, label: 0 }, shape.time);
  });
})();

type Gradients = Record<string, Float64Array>;

const squareOf = (gradients: Gradients): number =>
  Object.values(gradients).reduce((sum, values) => values.reduce((inner, value) => inner + value * value, sum), 0);
const distance = (a: Float64Array, b: Float64Array): number =>
  Math.sqrt(a.reduce((sum, value, at) => sum + (value - b[at]!) ** 2, 0));

/** Loss and gradient of one record by itself, without padding, by tfjs' own gradients. */
function alone(config: DecoderConfig, weights: Record<string, Tensor>, record: EncodedRecord) {
  const names = Object.keys(weightShapes(config));
  const time = record.tokens.length - 1;
  const predicted = record.tokens.length - record.given;
  const lossWeights = Array.from({ length: time }, (_, at) => (at >= record.given - 1 ? 1 / predicted : 0));
  const { losses, slopes } = tf.tidy(() => {
    const tokens = tf.tensor2d(record.tokens.slice(0, -1), [1, time], 'int32') as Tensor;
    const targets = tf.tensor1d(record.tokens.slice(1), 'int32') as Tensor;
    const { value, grads } = tf.valueAndGrads((...list: Tensor[]) => {
      const own = Object.fromEntries(names.map((name, index) => [name, list[index] as Tensor]));
      return crossEntropy(flatLogits(config, own, tokens), targets, tf.tensor1d(lossWeights)).sum() as never;
    })(names.map((name) => weights[name] as Tensor));
    return { losses: value as Tensor, slopes: grads as Tensor[] };
  });
  const gradients: Gradients = Object.fromEntries(
    names.map((name, index) => [name, Float64Array.from((slopes[index] as Tensor).dataSync())]),
  );
  const loss = losses.dataSync()[0]!;
  disposeTree([losses, slopes]);
  return { loss, gradients };
}

interface Result {
  sums: Gradients;
  norms: number[];
  losses: number[];
}

function resultOf(program: FullGradient, weights: Record<string, Tensor>, batch: Microbatch): Result {
  const { labels, ...data } = microbatchTensors(batch);
  const { sums, norms, losses } = program({ weights, ...data });
  const result = {
    sums: Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, Float64Array.from(sum.dataSync())])),
    norms: Array.from(norms.dataSync()),
    losses: Array.from(losses.dataSync()),
  };
  disposeTree([sums, norms, losses, labels, data]);
  return result;
}

describe.each([
  ['an untied head', smallConfig],
  ['a tied head', tied],
  ['learned positions, biases and a tied head', smallGpt2],
])('book-keeping with %s', (_, config) => {
  const weights = smallWeights(config);
  const singles = records.map((record) => alone(config, weights, record));
  const normsAlone = singles.map(({ gradients }) => Math.sqrt(squareOf(gradients)));
  // Some examples are clipped, others are not.
  const clipNorm = [...normsAlone].sort((a, b) => a - b)[2]! * 1.01;
  const program = compileFullGradient(config, clipNorm, shape);
  afterAll(() => {
    program.dispose();
    disposeTree(weights);
  });

  /** Clipped one by one, then added. */
  const expectedSums = (rows: readonly number[], bound: number): Gradients =>
    Object.fromEntries(
      Object.keys(weightShapes(config)).map((name) => [
        name,
        Float64Array.from(singles[0]!.gradients[name]!, (_, at) =>
          rows.reduce(
            (sum, row) => sum + singles[row]!.gradients[name]![at]! * Math.min(1, bound / normsAlone[row]!),
            0,
          ),
        ),
      ]),
    );
  function expectSums(sums: Gradients, expected: Gradients): void {
    expect(Object.keys(sums).sort()).toEqual(Object.keys(expected).sort());
    for (const [name, reference] of Object.entries(expected)) {
      const size = Math.sqrt(squareOf({ reference }));
      expect(size, name).toBeGreaterThan(0);
      expect(distance(sums[name]!, reference), name).toBeLessThanOrEqual(1e-5 * size);
    }
  }

  it('equals a loop of batch size one in norms, losses and clipped sums, whatever padding is around', () => {
    const { sums, norms, losses } = resultOf(program, weights, fillMicrobatch(shape, records, 0));
    norms.forEach((norm, row) => expect(Math.abs(norm / normsAlone[row]! - 1)).toBeLessThan(1e-5));
    losses.forEach((loss, row) => expect(loss).toBeCloseTo(singles[row]!.loss, 4));
    expectSums(sums, expectedSums([0, 1, 2, 3, 4], clipNorm));
  });

  it('keeps each example within the clip norm', () => {
    for (const [row, record] of records.entries()) {
      const { sums } = resultOf(program, weights, fillMicrobatch(shape, [record], 0));
      const norm = Math.sqrt(squareOf(sums));
      expect(norm).toBeLessThanOrEqual(clipNorm);
      expect(norm / Math.min(clipNorm, normsAlone[row]!)).toBeCloseTo(1, 4);
    }
  });

  it('leaves empty rows out', () => {
    const { sums, norms, losses } = resultOf(program, weights, fillMicrobatch(shape, [null, records[4]!], 0));
    expectSums(sums, expectedSums([4], clipNorm));
    for (const row of [0, 2, 3, 4]) expect([norms[row], losses[row]]).toEqual([0, 0]);
  });

  it.each([Infinity, NaN, 3e38])('counts an example that overflows to %f as zero', (value) => {
    const batch = fillMicrobatch(shape, records, 0);
    batch.lossWeights.fill(value, 3 * shape.time, 4 * shape.time);
    const { sums, norms } = resultOf(program, weights, batch);
    expect(norms[3]).toBe(0);
    expectSums(sums, expectedSums([0, 1, 2, 4], clipNorm));
  });
});
