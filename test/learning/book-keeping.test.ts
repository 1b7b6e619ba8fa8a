import { afterAll, describe, expect, it, vi } from 'vitest';
import { classConditioning } from '../../learning/tuning/apply.ts';
import {
  classBias,
  classInput,
  classOutput,
  sizeOf,
  trainedParameters,
  type ParameterGroup,
} from '../../learning/tuning/parameters.ts';
import { compile, disposeTree } from '../../learning/compile/index.ts';
import type { Layers } from '../../learning/decoder/blocks.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { flatLogits } from '../../learning/decoder/forward.ts';
import { crossEntropy } from '../../learning/decoder/loss.ts';
import { initialWeights } from '../../learning/decoder/weights.ts';
import { keepBooks, linearBook, squaredNormOf } from '../../learning/dp/book-keeping.ts';
import { exampleLosses } from '../../learning/dp/example-losses.ts';
import { compileFullGradient } from '../../learning/dp/full-gradient.ts';
import {
  addSums,
  microbatchTensors,
  type MicrobatchGradient,
  type MicrobatchInputs,
} from '../../learning/dp/gradients.ts';
import { encodeRecord, fillMicrobatch, type EncodedRecord, type Microbatch } from '../../learning/dp/sequences.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { smallConfig, smallGpt2, smallWeights } from './small-model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

/** Square matrices of 16 have small products, those of the feed-forward and the head are met by ghost norms. */
const shape = { rows: 5, time: 12 };
const tied: DecoderConfig = { ...smallConfig, tied: true };
const scaled: DecoderConfig = {
  ...smallConfig,
  ...{ family: 'llama', layers: 1, headDim: 6, biases: ['q', 'k', 'v'], ropeTheta: 10_000, rmsEps: 1e-5 },
  ropeScaling: { kind: 'llama3', factor: 8, lowFrequency: 1, highFrequency: 4, originalContext: 16 },
};

/** Records of different lengths with a prefix of two tokens; tokens repeat within a record. */
const records: EncodedRecord[] = (() => {
  const stream = seededStream(8, 'test records');
  const id = (): number => 2 + Math.floor(stream.uniform() * 9);
  return Array.from({ length: shape.rows }, (_, index) => {
    const text = Int32Array.from({ length: 1 + index * 3 }, id);
    return encodeRecord({ bosId: 1, eosId: 1, prefix: Int32Array.of(id(), id()), text, label: index % 2 }, shape.time);
  });
})();

type Gradients = Record<string, Float64Array>;

const squareOf = (gradients: Gradients): number =>
  Object.values(gradients).reduce((sum, values) => values.reduce((inner, value) => inner + value * value, sum), 0);
const distance = (a: Float64Array, b: Float64Array): number =>
  Math.sqrt(a.reduce((sum, value, at) => sum + (value - b[at]!) ** 2, 0));

type Tensors = Record<string, Tensor>;

const tablesOf = ({ dim, vocab }: DecoderConfig): Tensors => {
  const stream = seededStream(9, 'test class rows');
  const table = (width: number): Tensor => {
    const values = new Float32Array(2 * width);
    stream.fillGaussian(values, 0.2);
    return tf.tensor(values, [2, width]);
  };
  return { [classInput]: table(dim), [classOutput]: table(dim), [classBias]: table(vocab) };
};

/** Loss and gradient of one record by itself, without padding, by tfjs' own gradients. */
function alone(config: DecoderConfig, trained: Tensors, record: EncodedRecord) {
  const names = Object.keys(trained);
  const time = record.tokens.length - 1;
  const predicted = record.tokens.length - record.given;
  const lossWeights = Array.from({ length: time }, (_, at) => (at >= record.given - 1 ? 1 / predicted : 0));
  const { losses, slopes } = tf.tidy(() => {
    const tokens = tf.tensor2d(record.tokens.slice(0, -1), [1, time], 'int32') as Tensor;
    const targets = tf.tensor1d(record.tokens.slice(1), 'int32') as Tensor;
    const { value, grads } = tf.valueAndGrads((...list: Tensor[]) => {
      const own = Object.fromEntries(names.map((name, index) => [name, list[index] as Tensor]));
      const conditioning = classInput in own ? classConditioning(own, tf.tensor1d([record.label], 'int32')) : undefined;
      const logits = flatLogits(config, own, tokens, { conditioning });
      return crossEntropy(logits, targets, tf.tensor1d(lossWeights)).sum() as never;
    })(names.map((name) => trained[name] as Tensor));
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
  losses: number[];
}

const variants: [string, DecoderConfig, number][] = [
  ['an untied head', smallConfig, 0],
  ['a tied head', tied, 0],
  ['class rows', tied, 2],
  ['learned positions, biases and a tied head', smallGpt2, 0],
  ['biases, a head width of its own and scaled positions', scaled, 0],
];

describe.each(variants)('gradients of all weights with %s', (_, config, classes) => {
  const weights = smallWeights(config);
  const tables = classes > 0 ? tablesOf(config) : {};
  const tuned = { kind: 'full', classes } as const;
  const parameters = trainedParameters(config, tuned);
  const groups = [...new Set(parameters.map(({ group }) => group))];
  const singles = records.map((record) => alone(config, { ...weights, ...tables }, record));
  const partOf = (gradients: Gradients, group: ParameterGroup): Gradients =>
    Object.fromEntries(
      parameters.filter((parameter) => parameter.group === group).map(({ name }) => [name, gradients[name]!]),
    );
  const normsOf = (group: ParameterGroup): number[] =>
    singles.map(({ gradients }) => Math.sqrt(squareOf(partOf(gradients, group))));
  // Some examples are clipped, others are not.
  const bounds = Object.fromEntries(
    groups.map((group) => [group, [...normsOf(group)].sort((a, b) => a - b)[2]! * 1.01]),
  );
  const clipping = { bounds, step: null };
  const program = compileFullGradient(config, tuned, clipping, shape);
  afterAll(() => {
    program.dispose();
    disposeTree([weights, tables]);
  });

  function resultOf(gradient: MicrobatchGradient, batch: Microbatch): Result {
    const outputs = gradient({ weights, adapter: tables, ...microbatchTensors(batch) });
    const totals = Object.fromEntries(
      parameters.map((parameter) => [parameter.name, new Float64Array(sizeOf(parameter))]),
    );
    addSums(parameters, outputs.sums, totals);
    const losses = Array.from(outputs.losses.dataSync());
    disposeTree(outputs);
    return { sums: totals, losses };
  }

  /** Clipped one by one, each group by itself, then added. Null: not clipped. */
  const expectedSums = (rows: readonly number[], limits: Record<string, number> | null): Gradients =>
    Object.fromEntries(
      parameters.map(({ name, group }) => {
        const norms = normsOf(group);
        const factor = (row: number): number => (limits === null ? 1 : Math.min(1, limits[group]! / norms[row]!));
        return [
          name,
          Float64Array.from(singles[0]!.gradients[name]!, (__, at) =>
            rows.reduce((sum, row) => sum + singles[row]!.gradients[name]![at]! * factor(row), 0),
          ),
        ];
      }),
    );
  function expectSums(sums: Gradients, expected: Gradients): void {
    expect(Object.keys(sums).sort()).toEqual(Object.keys(expected).sort());
    for (const [name, reference] of Object.entries(expected)) {
      const size = Math.sqrt(squareOf({ reference }));
      expect(size, name).toBeGreaterThan(0);
      expect(distance(sums[name]!, reference), name).toBeLessThanOrEqual(1e-5 * size);
    }
  }
  const all = [0, 1, 2, 3, 4];

  it('equal a loop of batch size one in losses and clipped sums, whatever padding is around', () => {
    const { sums, losses } = resultOf(program, fillMicrobatch(shape, records, 0));
    losses.forEach((loss, row) => expect(loss).toBeCloseTo(singles[row]!.loss, 4));
    expectSums(sums, expectedSums(all, bounds));
  });

  it('keep each example within the clip norms', () => {
    for (const [row, record] of records.entries()) {
      const { sums } = resultOf(program, fillMicrobatch(shape, [record], 0));
      for (const group of groups) {
        const norm = Math.sqrt(squareOf(partOf(sums, group)));
        expect(norm).toBeLessThanOrEqual(bounds[group]!);
        expect(norm / Math.min(bounds[group]!, normsOf(group)[row]!)).toBeCloseTo(1, 4);
      }
    }
  });

  it('leave empty rows out', () => {
    const { sums, losses } = resultOf(program, fillMicrobatch(shape, [null, records[4]!], 0));
    const expected = expectedSums([4], bounds);
    for (const [name, reference] of Object.entries(expected)) {
      expect(distance(sums[name]!, reference), name).toBeLessThanOrEqual(1e-5 * Math.sqrt(squareOf({ reference })));
    }
    for (const row of [0, 2, 3, 4]) expect(losses[row]).toBe(0);
  });

  it.each([Infinity, NaN, 3e38])('count an example that overflows to %f as zero', (value) => {
    const batch = fillMicrobatch(shape, records, 0);
    batch.lossWeights.fill(value, 3 * shape.time, 4 * shape.time);
    const { sums, losses } = resultOf(program, batch);
    expect(losses[3]).toBe(0);
    expectSums(sums, expectedSums([0, 1, 2, 4], bounds));
  });

  it('are plain sums without clipping', () => {
    const plain = compileFullGradient(config, tuned, null, shape);
    expectSums(resultOf(plain, fillMicrobatch(shape, records, 0)).sums, expectedSums(all, null));
    plain.dispose();
  });

  it('have the norms that book-keeping finds', () => {
    const norms = compile((inputs: MicrobatchInputs): Tensor => {
      const tokens = inputs.tokens.slice([0, 0], [shape.rows, shape.time]);
      const conditioning = classes > 0 ? classConditioning(inputs.adapter, inputs.labels) : undefined;
      const { books } = keepBooks(
        config,
        {},
        inputs.weights,
        tokens,
        (layers) => exampleLosses(config, inputs.weights, inputs, { layers, conditioning }),
        [],
      );
      return tf.addN(Array.from(books.values(), squaredNormOf)).sqrt();
    });
    const result = norms({ weights, adapter: tables, ...microbatchTensors(fillMicrobatch(shape, records, 0)) });
    result.dataSync().forEach((norm, row) => expect(Math.abs(norm / normsOf('weights')[row]! - 1)).toBeLessThan(1e-5));
    norms.dispose();
  });
});

describe('norms of gradients over 128 tokens at width 128', () => {
  it('are at least those of the gradients themselves, and at most a thousandth more', () => {
    const [rows, time] = [3, 128];
    const config: DecoderConfig = {
      ...smallConfig,
      ...{ dim: 128, layers: 1, heads: 4, kvHeads: 4, hidden: 352, vocab: 512, context: time, tied: true },
    };
    const stream = seededStream(10, 'long texts');
    const weights = initialWeights(config, (out, deviation) => stream.fillGaussian(out, deviation));
    const long = [time, 60, 20].map((length) => {
      const text = Int32Array.from({ length }, () => Math.floor(stream.uniform() * config.vocab));
      return encodeRecord({ bosId: 0, eosId: 0, prefix: new Int32Array(0), text, label: 0 }, time);
    });
    const norms = compile((inputs: MicrobatchInputs): Tensor => {
      const lossOf = (layers: Layers): Tensor => exampleLosses(config, inputs.weights, inputs, { layers });
      const { books } = keepBooks(config, {}, inputs.weights, inputs.tokens.slice([0, 0], [rows, time]), lossOf, []);
      return tf.addN(Array.from(books.values(), squaredNormOf)).sqrt();
    });
    const found = norms({ weights, adapter: {}, ...microbatchTensors(fillMicrobatch({ rows, time }, long, 0)) });
    const plain = compileFullGradient(config, { kind: 'full', classes: 0 }, null, { rows: 1, time });
    found.dataSync().forEach((norm, row) => {
      const one = microbatchTensors(fillMicrobatch({ rows: 1, time }, [long[row]!], 0));
      const { sums } = plain({ weights, adapter: {}, ...one });
      const gradients = Object.entries(sums).map(([name, sum]) => [name, Float64Array.from(sum.dataSync())] as const);
      const excess = norm / Math.sqrt(squareOf(Object.fromEntries(gradients))) - 1;
      expect(excess).toBeGreaterThanOrEqual(0);
      expect(excess).toBeLessThanOrEqual(1e-3);
    });
    norms.dispose();
    plain.dispose();
    disposeTree(weights);
  });
});

describe('norms of gradients whose parts cancel', () => {
  /** Positions whose products add up to next to nothing, and the norm of their sum in double precision. */
  function cancelling(seed: number, [time, inputs, outputs]: readonly [number, number, number]) {
    const stream = seededStream(seed, 'cancelling gradients');
    const normals = (length: number): Float32Array => {
      const values = new Float32Array(length);
      stream.fillGaussian(values, 1);
      return values;
    };
    const [direction, output] = [normals(inputs), normals(outputs)];
    const x = Float32Array.from(
      { length: time * inputs },
      (_, at) => 30 * direction[at % inputs]! + 1e-3 * stream.uniform(),
    );
    const sign = (at: number): number => (Math.floor(at / outputs) % 2 === 0 ? 1 : -1);
    const dy = Float32Array.from({ length: time * outputs }, (_, at) => sign(at) * output[at % outputs]!);
    let square = 0;
    for (let row = 0; row < outputs; row++) {
      for (let column = 0; column < inputs; column++) {
        let sum = 0;
        for (let at = 0; at < time; at++) sum += dy[at * outputs + row]! * x[at * inputs + column]!;
        square += sum * sum;
      }
    }
    return { x: tf.tensor(x, [1, time, inputs]), dy: tf.tensor(dy, [1, time, outputs]), norm: Math.sqrt(square) };
  }

  it.each([
    ['met by their own products', [64, 8, 8]],
    ['met by ghost norms', [16, 96, 80]],
  ] as const)('are never too small for matrices %s', (_, sizes) => {
    for (let seed = 0; seed < 40; seed++) {
      const { x, dy, norm } = cancelling(seed, sizes);
      const found = tf.tidy(
        () =>
          squaredNormOf([linearBook(x, dy, false)])
            .sqrt()
            .dataSync()[0]!,
      );
      expect(found).toBeGreaterThanOrEqual(norm);
      disposeTree([x, dy]);
    }
  });
});
