import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { trainedParameters, type ParameterGroup } from '../../learning/tuning/parameters.ts';
import {
  compileMicrobatchGradient,
  microbatchTensors,
  addSums,
  type MicrobatchGradient,
} from '../../learning/dp/gradients.ts';
import { checkRange, deviationOnGrid, gridFor, groupBounds, mostRows } from '../../learning/dp/grid.ts';
import { rowsAreIndependent } from '../../learning/dp/row-independence.ts';
import { encodeRecord, fillMicrobatch, singleRows, type EncodedRecord } from '../../learning/dp/sequences.ts';
import { clippingFor } from '../../learning/dp/trainer.ts';
import { disposeTree } from '../../learning/compile/index.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { adapterTensors, randomAdapter, smallAdapter, smallConfig, smallWeights } from './small-model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const clipNorm = 0.3;
const grid = gridFor(clipNorm);
const mechanism = (arithmetic: 'exact' | 'float'): PoissonGaussianMechanism => ({
  ...{ kind: 'poisson-gaussian', samplingProbability: 0.1, noiseMultiplier: 1, steps: 1, expectedBatchSize: 1 },
  ...{ clipNorm, arithmetic },
});
const clipping = clippingFor(mechanism('exact'), smallAdapter)!;
const parameters = trainedParameters(smallConfig, smallAdapter);
const groups = ['lora', 'vectors', 'bias'] as const;
const shape = { rows: 7, time: 12 };

const records: EncodedRecord[] = (() => {
  const stream = seededStream(8, 'test records');
  const id = (): number => 2 + Math.floor(stream.uniform() * (smallConfig.vocab - 2));
  return Array.from({ length: shape.rows }, (_, index) => {
    const text = Int32Array.from({ length: 1 + index * 2 }, id);
    return encodeRecord({ bosId: 1, eosId: 1, prefix: Int32Array.of(id()), text, label: index % 2 }, shape.time);
  });
})();

let weights: Record<string, Tensor>;
let adapter: Record<string, Tensor>;
let exact: MicrobatchGradient;
let float: MicrobatchGradient;
beforeAll(() => {
  weights = smallWeights();
  adapter = adapterTensors(parameters, randomAdapter(parameters));
  exact = compileMicrobatchGradient(smallConfig, smallAdapter, clipping, shape);
  float = compileMicrobatchGradient(smallConfig, smallAdapter, clippingFor(mechanism('float'), smallAdapter), shape);
});
afterAll(() => {
  exact.dispose();
  float.dispose();
});

type Sums = Record<string, number[]>;

/** Sums by group over rows. @param spoil changes the inputs before they are used */
function sumsOf(
  program: MicrobatchGradient,
  rows: readonly (EncodedRecord | null)[],
  spoil?: (batch: ReturnType<typeof fillMicrobatch>) => void,
): Sums {
  const batch = fillMicrobatch(shape, rows, 0);
  spoil?.(batch);
  const outputs = program({ weights, adapter, ...microbatchTensors(batch) });
  const sums = Object.fromEntries(groups.map((group) => [group, Array.from(outputs.sums[group]!.dataSync())]));
  disposeTree(outputs);
  return sums;
}

const added = (a: Sums, b: Sums): Sums =>
  Object.fromEntries(groups.map((group) => [group, a[group]!.map((value, at) => value + b[group]![at]!)]));
const squares = (values: readonly number[]): bigint => values.reduce((sum, value) => sum + BigInt(value) ** 2n, 0n);
const alone = (record: EncodedRecord, row: number): (EncodedRecord | null)[] => [
  ...Array.from({ length: row }, () => null),
  record,
];

describe('exact sums of clipped gradients', () => {
  it('are whole steps of the grid, and the float sums but for truncation and margin', () => {
    const units = sumsOf(exact, records);
    const plain = sumsOf(float, records);
    for (const group of groups) {
      expect(units[group]!.every(Number.isInteger)).toBe(true);
      const size = Math.sqrt(Number(squares(units[group]!))) * grid.step;
      const difference = units[group]!.map((value, at) => value * grid.step - plain[group]![at]!);
      // The margin of the norm, some 270 2^-24, and a truncated step for each example and parameter.
      const truncated = records.length * Math.sqrt(difference.length) * grid.step;
      expect(Math.hypot(...difference)).toBeLessThan(2e-5 * size + truncated);
      expect(size).toBeGreaterThan(0.01);
    }
  });

  it('hold for each example the clip norm in integers, and come near it', () => {
    for (const record of records) {
      const units = sumsOf(exact, [record]);
      let joint = 0n;
      for (const group of groups) {
        const norm = squares(units[group]!);
        expect(norm <= BigInt(clipping.bounds[group]!) ** 2n).toBe(true);
        expect(Math.sqrt(Number(norm))).toBeGreaterThan(0.999 * clipping.bounds[group]!);
        joint += norm;
      }
      expect(joint <= BigInt(Math.floor(grid.clipNorm)) ** 2n).toBe(true);
    }
  });

  it('give an example the same bits in every row and beside any neighbours', () => {
    const contributions = records.map((record) => sumsOf(exact, [record]));
    for (const row of [1, 3, 6]) expect(sumsOf(exact, alone(records[4]!, row))).toEqual(contributions[4]);
    const whole = contributions.reduce(added);
    expect(sumsOf(exact, records)).toEqual(whole);
    expect(sumsOf(exact, [...records].reverse())).toEqual(whole);
    const neighbours = records.map((_, row) => records[row === 2 ? 2 : 5]!);
    let expected = contributions[2]!;
    for (let other = 0; other < 6; other++) expected = added(expected, contributions[5]!);
    expect(sumsOf(exact, neighbours)).toEqual(expected);
  });

  it.each([Infinity, NaN, 3e38])(
    'count an example that overflows to %f as zero and change no bit of others',
    (value) => {
      const spoiled = sumsOf(exact, records, (batch) => batch.lossWeights.fill(value, 3 * shape.time, 4 * shape.time));
      const others = records.map((record, row) => (row === 3 ? null : record));
      expect(spoiled).toEqual(sumsOf(exact, others));
      const only = sumsOf(exact, alone(records[3]!, 3), (batch) => batch.lossWeights.fill(value, 3 * shape.time));
      for (const group of groups) expect(only[group]!.every((units) => units === 0)).toBe(true);
    },
  );

  it('are read by parameter', () => {
    const batch = fillMicrobatch(shape, records, 0);
    const { sums } = exact({ weights, adapter, ...microbatchTensors(batch) });
    const total: Partial<Record<ParameterGroup, number>> = {};
    const totals = Object.fromEntries(
      parameters.map(({ name, shape: size }) => [name, new Float64Array(size.reduce((a, b) => a * b))]),
    );
    addSums(parameters, sums, totals);
    for (const { name, group } of parameters) {
      total[group] = totals[name]!.reduce((sum, value) => sum + value, total[group] ?? 0);
    }
    const direct = Object.fromEntries(groups.map((group) => [group, sums[group]!.sum().dataSync()[0]]));
    for (const group of groups) expect(total[group]).toBeCloseTo(direct[group]!, -3);
  });
});

describe('the check of a program', () => {
  const model = () => ({ config: smallConfig, tuned: smallAdapter, weights });

  it('passes programs whose rows are alike', () => {
    expect(rowsAreIndependent(exact, model(), shape)).toBe(true);
  });

  it('finds one unit in one row that depends on the row, or on whether another row is used', () => {
    const altered = (change: (present: Tensor) => Tensor): MicrobatchGradient => {
      const program = (inputs: Parameters<MicrobatchGradient>[0]) => {
        const outputs = exact(inputs);
        const bump = tf.oneHot(tf.scalar(5, 'int32') as never, outputs.sums['lora']!.size).mul(change(inputs.present));
        return { ...outputs, sums: { ...outputs.sums, lora: outputs.sums['lora']!.add(bump.toInt()) as Tensor } };
      };
      const all = (calls: readonly Parameters<typeof program>[0][]) => calls.map(program);
      return Object.assign(program, { all, dispose: () => undefined, programs: 1 });
    };
    const byRow = altered((present) => present.slice([3], [1]).toInt());
    expect(rowsAreIndependent(byRow, model(), shape)).toBe(false);
    const byNeighbour = altered((present) =>
      present
        .slice([0], [1])
        .mul(present.slice([6], [1]))
        .toInt(),
    );
    expect(rowsAreIndependent(byNeighbour, model(), shape)).toBe(false);
  });

  it('finds a last bit of a loss that depends on the row, though no sum shows it', () => {
    const program = (inputs: Parameters<MicrobatchGradient>[0]) => {
      const outputs = exact(inputs);
      const nudged = Float32Array.from(outputs.losses.dataSync(), (loss, row) =>
        row === 3 ? loss * (1 + 2 ** -23) : loss,
      );
      return { ...outputs, losses: tf.tensor(nudged) as Tensor };
    };
    const all = (calls: readonly Parameters<typeof program>[0][]) => calls.map(program);
    const nudging = Object.assign(program, { all, dispose: () => undefined, programs: 1 });
    expect(rowsAreIndependent(nudging, model(), shape)).toBe(false);
  });

  it('cuts a microbatch into its examples when rows are not alike', () => {
    const batch = fillMicrobatch(shape, [records[0]!, null, records[2]!], 0);
    const parts = singleRows(batch);
    expect(parts.map(({ shape: size, labels }) => [size.rows, size.time, labels[0]])).toEqual([
      [1, 12, 0],
      [1, 12, 0],
    ]);
    expect(parts[1]).toEqual({ ...fillMicrobatch({ rows: 1, time: 12 }, [records[2]!], 0) });
  });
});

describe('the grid', () => {
  it('has a power of two as its step, between 2^21 and 2^22 in a clip norm', () => {
    for (const norm of [1e-20, 0.1, 0.5, 1 - 2 ** -53, 1, 1 + 2 ** -52, 3, 2 ** 40]) {
      const { step, clipNorm: units } = gridFor(norm);
      expect(Math.log2(step)).toBe(Math.round(Math.log2(step)));
      expect(units * step).toBe(norm);
      expect(units).toBeGreaterThanOrEqual(2 ** 21);
      expect(units).toBeLessThan(2 ** 22);
    }
    for (const norm of [0, NaN, Infinity, 1e-40]) expect(() => gridFor(norm)).toThrow(RangeError);
  });

  it('rounds the deviation of the noise up', () => {
    const stream = seededStream(1, 'sigmas');
    for (let index = 0; index < 1000; index++) {
      const [sigma, norm] = [0.1 + 10 * stream.uniform(), 0.01 + stream.uniform()];
      const deviation = deviationOnGrid(sigma, gridFor(norm));
      // As integers times 2^-100 or less: doubles are dyadic.
      const scaled = (value: number, bits: number): bigint => BigInt(value * 2 ** bits);
      const needed = scaled(sigma, 60) * scaled(gridFor(norm).clipNorm, 40);
      expect(scaled(deviation, 60) << 40n).toBeGreaterThanOrEqual(needed);
      expect(deviation / (sigma * gridFor(norm).clipNorm)).toBeLessThan(1 + 1e-15);
    }
  });

  it('gives groups whole norms whose squares sum to that of the clip norm at most', () => {
    const bounds = groupBounds(grid, { a: Math.sqrt(0.5), b: Math.sqrt(0.5) });
    expect(squares(Object.values(bounds)) <= BigInt(Math.floor(grid.clipNorm)) ** 2n).toBe(true);
    expect(() => groupBounds(grid, { a: 0.8, b: 0.8 })).toThrow(RangeError);
  });

  it('refuses sums outside the range of exact arithmetic', () => {
    expect(() => checkRange(Float64Array.of(0, -5, 2 ** 52))).not.toThrow();
    for (const bad of [2 ** 52 + 1, -(2 ** 53), 0.5, NaN, Infinity]) {
      expect(() => checkRange(Float64Array.of(1, bad))).toThrow(/range of exact arithmetic/);
    }
    expect(mostRows(2 ** 22)).toBe(511);
  });
});
