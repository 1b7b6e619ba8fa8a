/** @file Gradients of a classifier on a pre-trained model, against automatic differentiation of one example at a time. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { linearNames, type ModelConfig } from '../../learning/decoder/config.ts';
import { flatHidden } from '../../learning/decoder/forward.ts';
import { compileFullGradient } from '../../learning/dp/full-gradient.ts';
import {
  addSums,
  compileMicrobatchGradient,
  microbatchTensors,
  type MicrobatchGradient,
} from '../../learning/dp/gradients.ts';
import { gridFor } from '../../learning/dp/grid.ts';
import { rowsAreIndependent } from '../../learning/dp/row-independence.ts';
import { fillMicrobatch, type EncodedRecord } from '../../learning/dp/sequences.ts';
import { clippingFor } from '../../learning/dp/trainer.ts';
import { encoderShapes, type EncoderConfig } from '../../learning/encoder/config.ts';
import { encode } from '../../learning/encoder/forward.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { readRecord } from '../../learning/transformer/base.ts';
import {
  headBias,
  headWeight,
  loraName,
  loraPlaces,
  sizeOf,
  trainedParameters,
  type TunedShape,
} from '../../learning/tuning/parameters.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { adapterTensors, randomAdapter, smallConfig, smallGpt2, smallWeights } from '../learning/small-model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const smallBert: EncoderConfig = {
  ...{ family: 'bert', dim: 16, layers: 2, heads: 4, hidden: 24, vocab: 40, context: 32 },
  ...{ firstPosition: 2, segments: 2, normEps: 1e-5, activation: 'gelu' },
};

const classes = 3;
const clipNorm = 0.5;
// As long as real ones may be: a multiple of 8.
const shape = { rows: 5, time: 16 };
const mechanism = (arithmetic: 'exact' | 'float'): PoissonGaussianMechanism => ({
  ...{ kind: 'poisson-gaussian', samplingProbability: 0.1, noiseMultiplier: 1, steps: 1, expectedBatchSize: 1 },
  ...{ clipNorm, arithmetic },
});

function weightsOf(config: ModelConfig): Record<string, Tensor> {
  if (config.family !== 'bert') return smallWeights(config);
  const stream = seededStream(5, 'test weights');
  return Object.fromEntries(
    Object.entries(encoderShapes(config)).map(([name, size]) => {
      const values = new Float32Array(sizeOf({ shape: size }));
      stream.fillGaussian(values, 0.3);
      return [name, tf.tensor(values, size) as Tensor];
    }),
  );
}

const norm = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, v) => sum + v * v, 0));

const padOf = ({ family }: ModelConfig): number => (family === 'bert' ? -1 : 0);

/** Texts of 1, 3, 5 ... tokens. */
function recordsOf(config: ModelConfig, pooling: 'mean' | 'token'): EncodedRecord[] {
  const stream = seededStream(8, 'test records');
  const id = (): number => 2 + Math.floor(stream.uniform() * (config.vocab - 2));
  return Array.from({ length: shape.rows }, (_, index) => {
    const ids = Int32Array.from([0, ...Array.from({ length: 1 + 2 * index }, id), 1]);
    return readRecord(
      { config, padId: padOf(config), read: () => ids },
      { text: '', label: index % classes },
      { pooling, sequence: shape.time },
    );
  });
}

const lora = (config: ModelConfig): TunedShape & { kind: 'lora' } => ({
  ...{ kind: 'lora', rank: 3, alpha: 6, targets: linearNames(config), classes: 0, head: { classes } },
});

describe.each([
  ['a Llama', smallConfig, 'mean'],
  ['a GPT-2, by its last token', smallGpt2, 'token'],
  ['an encoder', smallBert, 'mean'],
  ['an encoder, by its first token', smallBert, 'token'],
] as const)('gradients of a classifier on %s', (_, config, pooling) => {
  const records = recordsOf(config, pooling);
  const padId = padOf(config);
  let weights: Record<string, Tensor>;
  beforeAll(() => {
    weights = weightsOf(config);
  });
  afterAll(() => tf.dispose(weights));

  /** Loss of one text by itself: no padding, no microbatch, and LoRA as the matrix that it stands for. */
  function lossOf(record: EncodedRecord, tuned: TunedShape, own: Record<string, Tensor>): Tensor {
    const used: Record<string, Tensor> = { ...weights, ...own };
    if (tuned.kind === 'lora') {
      for (const { path } of loraPlaces(config, tuned)) {
        const [up, down] = [own[loraName(path, 'B')]!, own[loraName(path, 'A')]!];
        used[`${path}.weight`] = used[`${path}.weight`]!.add(tf.matMul(up, down).mul(tuned.alpha / tuned.rank));
      }
    }
    const time = record.tokens.length - 1;
    const tokens = tf.tensor2d(record.tokens.slice(0, -1), [1, time], 'int32') as Tensor;
    const hidden =
      config.family === 'bert'
        ? encode(config, used, tokens, tf.ones([1, time])).reshape([time, config.dim])
        : flatHidden(config, used, tokens);
    const first = pooling === 'mean' ? (config.family === 'bert' ? 0 : 1) : config.family === 'bert' ? 0 : time - 1;
    const count = pooling === 'mean' ? time - first : 1;
    const pooled = hidden.slice([first, 0], [count, config.dim]).mean(0, true);
    const logits = tf.matMul(pooled, own[headWeight]!, false, true).add(own[headBias]!);
    return tf.losses.softmaxCrossEntropy(tf.oneHot([record.label], classes), logits as never) as never;
  }

  /** Loop of batch size one: clip each group, then add. */
  function loop(chosen: readonly EncodedRecord[], tuned: TunedShape, values: Record<string, Tensor>) {
    const parameters = trainedParameters(config, tuned);
    const { bounds } = clippingFor(mechanism('float'), tuned)!;
    const sums = Object.fromEntries(parameters.map((each) => [each.name, new Float64Array(sizeOf(each))]));
    for (const record of chosen) {
      const { grads } = tf.valueAndGrads((...list: Tensor[]) => {
        const own = Object.fromEntries(parameters.map(({ name }, index) => [name, list[index]!]));
        return lossOf(record, tuned, own) as never;
      })(parameters.map(({ name }) => values[name]!) as never);
      const flat = grads.map((gradient) => (gradient as Tensor).dataSync());
      for (const group of new Set(parameters.map((each) => each.group))) {
        const places = [...parameters.keys()].filter((place) => parameters[place]!.group === group);
        const factor = Math.min(1, bounds[group]! / norm(places.map((place) => norm(flat[place]!))));
        for (const place of places) {
          const sum = sums[parameters[place]!.name]!;
          flat[place]!.forEach((value, at) => (sum[at]! += factor * value));
        }
      }
    }
    return sums;
  }

  function totals(tuned: TunedShape, sums: Record<string, Tensor>): Record<string, Float64Array> {
    const parameters = trainedParameters(config, tuned);
    const found = Object.fromEntries(parameters.map((each) => [each.name, new Float64Array(sizeOf(each))]));
    addSums(parameters, sums, found);
    return found;
  }

  function expectNear(found: Record<string, Float64Array>, expected: Record<string, Float64Array>, step = 1): void {
    const all = (sums: Record<string, Float64Array>): number[] => Object.values(sums).flatMap((sum) => [...sum]);
    for (const name of [headWeight, headBias]) expect(norm(expected[name]!), name).toBeGreaterThan(1e-3);
    expect(norm(all(expected))).toBeGreaterThan(0.1);
    const names = Object.keys(expected);
    const differences = names.map((name) => norm(found[name]!.map((value, at) => value * step - expected[name]![at]!)));
    expect(norm(differences)).toBeLessThan(1e-4 * norm(all(expected)));
  }

  describe('with LoRA', () => {
    const tuned = lora(config);
    const parameters = trainedParameters(config, tuned);
    const clipping = clippingFor(mechanism('exact'), tuned)!;
    const grid = gridFor(clipNorm);
    let adapter: Record<string, Tensor>;
    let gradient: MicrobatchGradient;
    beforeAll(() => {
      adapter = adapterTensors(parameters, randomAdapter(parameters));
      gradient = compileMicrobatchGradient(config, tuned, clipping, shape);
    });
    afterAll(() => gradient.dispose());
    const sumsOf = (rows: readonly (EncodedRecord | null)[]): Record<string, Tensor> =>
      gradient({ weights, adapter, ...microbatchTensors(fillMicrobatch(shape, rows, padId)) }).sums;

    it('are those of a loop of batch size one, whatever padding is around an example', () => {
      expectNear(totals(tuned, sumsOf(records)), loop(records, tuned, adapter), grid.step);
      const few = [records[0]!, null, records[3]!];
      expectNear(totals(tuned, sumsOf(few)), loop([records[0]!, records[3]!], tuned, adapter), grid.step);
    });

    it('stay within the clip norm for every example, as integers', () => {
      for (const record of records) {
        const sums = Object.values(sumsOf([record])).flatMap((sum) => Array.from(sum.dataSync()));
        const squares = sums.reduce((total, unit) => total + BigInt(unit) ** 2n, 0n);
        expect(squares <= BigInt(Math.floor(grid.clipNorm)) ** 2n).toBe(true);
        expect(Math.sqrt(Number(squares))).toBeGreaterThan(0.9 * grid.clipNorm);
      }
    });

    it('are the same in any row, or are known not to be', () => {
      const independent = rowsAreIndependent(gradient, { config, tuned, weights }, shape);
      const apart = records.map((record) => totals(tuned, sumsOf([record])));
      const whole = totals(tuned, sumsOf(records));
      const equal = Object.entries(whole).every(([name, sum]) =>
        sum.every((value, at) => value === apart.reduce((total, each) => total + each[name]![at]!, 0)),
      );
      expect(equal || !independent).toBe(true);
    });
  });

  it('of all weights are those of the loop, clipped and plain', () => {
    const tuned: TunedShape = { kind: 'full', classes: 0, head: { classes } };
    const head = trainedParameters(config, tuned).filter(({ group }) => group === 'head');
    const adapter = adapterTensors(head, randomAdapter(head));
    const gradient = compileFullGradient(config, tuned, clippingFor(mechanism('float'), tuned), shape);
    const trained = Object.fromEntries(
      trainedParameters(config, tuned)
        .filter(({ group }) => group === 'weights')
        .map(({ name }) => [name, weights[name]!]),
    );
    const inputs = { weights: trained, adapter, ...microbatchTensors(fillMicrobatch(shape, records, padId)) };
    expectNear(totals(tuned, gradient(inputs).sums), loop(records, tuned, { ...weights, ...adapter }));
    gradient.dispose();
  });
});
