import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { adapted } from '../../learning/tuning/apply.ts';
import { trainedParameters, type AdapterShape } from '../../learning/tuning/parameters.ts';
import { linearNames, type DecoderConfig } from '../../learning/decoder/config.ts';
import { flatLogits } from '../../learning/decoder/forward.ts';
import { crossEntropy } from '../../learning/decoder/loss.ts';
import {
  addSums,
  compileMicrobatchGradient,
  microbatchTensors,
  type MicrobatchGradient,
} from '../../learning/dp/gradients.ts';
import { encodeRecord, microbatches, type EncodedRecord, type Microbatch } from '../../learning/dp/sequences.ts';
import { clippingFor } from '../../learning/dp/trainer.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { seededStream } from '../../privacy/noise.ts';
import { adapterTensors, randomAdapter, smallAdapter, smallConfig, smallGpt2, smallWeights } from './small-model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const clipNorm = 0.5;
const mechanism = (arithmetic: 'exact' | 'float'): PoissonGaussianMechanism => ({
  ...{ kind: 'poisson-gaussian', samplingProbability: 0.1, noiseMultiplier: 1, steps: 1, expectedBatchSize: 1 },
  ...{ clipNorm, arithmetic },
});
const shape = { rows: 6, time: 12 };

/** Records of different lengths and classes, with a prefix of two tokens. */
function someRecords(count: number): EncodedRecord[] {
  const stream = seededStream(8, 'test records');
  const id = (): number => 2 + Math.floor(stream.uniform() * (smallConfig.vocab - 2));
  return Array.from({ length: count }, (_, index) => {
    const text = Int32Array.from({ length: index * 2 }, id);
    return encodeRecord({ bosId: 1, eosId: 1, prefix: Int32Array.of(id(), id()), text, label: index % 2 }, shape.time);
  });
}

const norm = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, v) => sum + v * v, 0));

const prompt: AdapterShape = { kind: 'prompt', length: 3, classes: 2 };

describe.each([
  ['LoRA', smallConfig, smallAdapter],
  ['a prompt', smallConfig, prompt],
  ['LoRA in GPT-2', smallGpt2, { ...smallAdapter, targets: linearNames(smallGpt2) }],
] as [string, DecoderConfig, AdapterShape][])('with %s', (_, config, adapterShape) => {
  const parameters = trainedParameters(config, adapterShape);
  const groups = [adapterShape.kind, 'vectors', 'bias'] as const;
  const clipping = clippingFor(mechanism('float'), adapterShape)!;
  const clipNorms = clipping.bounds;
  let weights: Record<string, Tensor>;
  let adapter: Record<string, Tensor>;
  let gradient: MicrobatchGradient;

  beforeAll(() => {
    weights = smallWeights(config);
    adapter = adapterTensors(parameters, randomAdapter(parameters));
    gradient = compileMicrobatchGradient(config, adapterShape, clipping, shape);
  });
  afterAll(() => gradient.dispose());

  const inputsOf = (batch: Microbatch) => ({ weights, adapter, ...microbatchTensors(batch) });

  /** Loss and plain gradient of one record by itself, without padding, by the adapted model as generation uses it. */
  function alone(record: EncodedRecord): { loss: number; gradient: Record<string, Float32Array> } {
    const time = record.tokens.length - 1;
    const tokens = tf.tensor2d(record.tokens.slice(0, -1), [1, time], 'int32') as Tensor;
    const targets = tf.tensor1d(record.tokens.slice(1), 'int32') as Tensor;
    const predicted = record.tokens.length - record.given;
    const lossWeights = Array.from({ length: time }, (_, at) => (at >= record.given - 1 ? 1 / predicted : 0));
    const { value, grads } = tf.valueAndGrads((...list: Tensor[]) => {
      const tensors = Object.fromEntries(parameters.map(({ name }, index) => [name, list[index] as Tensor]));
      const options = adapted(adapterShape, tensors, tf.tensor1d([record.label], 'int32'));
      const logits = flatLogits(config, weights, tokens, options);
      return crossEntropy(logits, targets, tf.tensor1d(lossWeights)).sum() as never;
    })(parameters.map(({ name }) => adapter[name] as Tensor));
    return {
      loss: (value as Tensor).dataSync()[0] as number,
      gradient: Object.fromEntries(
        parameters.map(({ name }, index) => [name, (grads[index] as Tensor).dataSync() as Float32Array]),
      ),
    };
  }

  /** The same in a loop of batch size one: clip each group, then add. */
  function loop(records: readonly EncodedRecord[]): Record<string, Float64Array> {
    const sums = Object.fromEntries(
      parameters.map(({ name, shape }) => [name, new Float64Array(shape.reduce((a, b) => a * b, 1))]),
    );
    for (const record of records) {
      const own = alone(record).gradient;
      for (const group of groups) {
        const members = parameters.filter((parameter) => parameter.group === group);
        const square = members.reduce(
          (sum, { name }) => (own[name] as Float32Array).reduce((inner, value) => inner + value * value, sum),
          0,
        );
        const factor = Math.min(1, clipNorms[group]! / Math.sqrt(square));
        for (const { name } of members) {
          const sum = sums[name] as Float64Array;
          (own[name] as Float32Array).forEach((value, index) => (sum[index] = (sum[index] as number) + value * factor));
        }
      }
    }
    return sums;
  }

  function expectSums(sums: Record<string, Tensor>, expected: Record<string, Float64Array>): void {
    const totals = Object.fromEntries(
      Object.entries(expected).map(([name, { length }]) => [name, new Float64Array(length)]),
    );
    addSums(parameters, sums, totals);
    for (const [name, reference] of Object.entries(expected)) {
      const difference = Array.from(reference, (value, index) => totals[name]![index]! - value);
      expect(norm(reference), name).toBeGreaterThan(0);
      // The clip factor itself stays 2e-6 below its bound.
      expect(norm(difference), name).toBeLessThanOrEqual(1e-5 * norm(reference) + 1e-9);
    }
  }

  describe('clipped sums of per-example gradients', () => {
    it('equal a loop of batch size one, whatever padding is around an example', () => {
      const records = someRecords(6);
      const [batch] = microbatches(records, Int32Array.from([0, 1, 2, 3, 4, 5]), [shape], 0) as [Microbatch];
      const { sums, losses } = gradient(inputsOf(batch));
      expectSums(sums, loop(records));
      const expected = records.map((record) => alone(record).loss);
      Array.from(losses.dataSync()).forEach((loss, index) => expect(loss).toBeCloseTo(expected[index] as number, 4));
    });

    it('leave empty rows out', () => {
      const records = someRecords(6);
      const [batch] = microbatches(records, Int32Array.from([1, 4]), [shape], 0) as [Microbatch];
      expect(Array.from(batch.present)).toEqual([1, 1, 0, 0, 0, 0]);
      expectSums(gradient(inputsOf(batch)).sums, loop([records[1], records[4]] as EncodedRecord[]));
    });

    it('stay within the clip norm for one example, by group and jointly', () => {
      const records = someRecords(6);
      const [batch] = microbatches(records, Int32Array.from([5]), [shape], 0) as [Microbatch];
      const { sums } = gradient(inputsOf(batch));
      const groupNorm = (group: string): number => norm(sums[group]!.dataSync());
      for (const group of groups) {
        expect(groupNorm(group)).toBeLessThanOrEqual(clipNorms[group]!);
        expect(groupNorm(group)).toBeGreaterThan(0.99 * clipNorms[group]!);
      }
      expect(norm(groups.map(groupNorm))).toBeLessThanOrEqual(clipNorm);
    });

    it('count an example with non-finite gradient as zero and leave its neighbours alone', () => {
      const records = someRecords(6);
      const [batch] = microbatches(records, Int32Array.from([2, 3, 5]), [shape], 0) as [Microbatch];
      // The weights of its loss overflow, as a gradient of that size would.
      batch.lossWeights.fill(Infinity, 1 * shape.time + 2, 1 * shape.time + 5);
      const { sums, losses } = gradient(inputsOf(batch));
      expectSums(sums, loop([records[2], records[5]] as EncodedRecord[]));
      expect(losses.dataSync()[1]).toBe(0);
    });

    it('are the plain gradients without clipping', () => {
      const records = someRecords(3);
      const plain = compileMicrobatchGradient(config, adapterShape, null, shape);
      const [batch] = microbatches(records, Int32Array.from([0, 1, 2]), [shape], 0) as [Microbatch];
      const { sums } = plain(inputsOf(batch));
      const expected = loopUnclipped(records);
      expectSums(sums, expected);
      plain.dispose();
    });
  });

  function loopUnclipped(records: readonly EncodedRecord[]): Record<string, Float64Array> {
    const own = records.map((record) => alone(record).gradient);
    return Object.fromEntries(
      parameters.map(({ name }) => [
        name,
        Float64Array.from(own[0]?.[name] as Float32Array, (_, index) =>
          own.reduce((sum, each) => sum + ((each[name] as Float32Array)[index] as number), 0),
        ),
      ]),
    );
  }
});
