import { mkdtemp, readFile, writeFile, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { initialValues, sizeOf, trainedParameters } from '../../learning/tuning/parameters.ts';
import { usualAdam, zeroState } from '../../learning/dp/optimisers.ts';
import { readCheckpoint, writeCheckpoint, type TrainingState } from '../../learning/dp/checkpoint.ts';
import { deviationOnGrid, gridFor } from '../../learning/dp/grid.ts';
import { bucketLengths, encodeRecord, type EncodedRecord } from '../../learning/dp/sequences.ts';
import {
  clippingFor,
  largestNorm,
  Trainer,
  unmovedGroups,
  type TrainerHooks,
  type TrainerSettings,
} from '../../learning/dp/trainer.ts';
import { stepDigest, trainInSteps } from '../../learning/dp/outer-loop.ts';
import type { Tensor } from '../../learning/tensorflow.ts';
import { roundedGaussian } from '../../privacy/exact-gaussian.ts';
import { seededStream, stepStreams } from '../../privacy/noise.ts';
import { poissonBatch } from '../../privacy/poisson.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { smallAdapter, smallConfig, smallWeights } from './small-model.ts';

// Several programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const config = { ...smallConfig, layers: 1 };
const parameters = trainedParameters(config, smallAdapter);
const training = { parameters, steps: 7 };
const layout = bucketLengths(8).map((time) => ({ time, rows: 4 }));
const key = Buffer.alloc(32, 3);
const mechanism: PoissonGaussianMechanism = {
  kind: 'poisson-gaussian',
  samplingProbability: 0.25,
  noiseMultiplier: 0.8,
  steps: 5,
  clipNorm: 0.5,
  expectedBatchSize: 10,
  arithmetic: 'exact',
};
const settings: TrainerSettings = {
  config,
  tuned: smallAdapter,
  optimizer: usualAdam,
  schedule: { lr: 5e-3, warmup: 2, decay: 'linear', finalLr: 0.1, steps: 5 },
  mechanism,
  unboundedBatch: { samplingProbability: 0.25, expectedBatchSize: 10, seed: 1 },
  secret: { key, nodeKey: 'a' },
  layout,
  atOnce: 2,
  padId: 1,
  machine: 'this one',
  base: 'base',
};
const quiet: TrainerHooks = {
  beforeStep: () => Promise.resolve(),
  between: () => Promise.resolve(),
  afterStep: () => Promise.resolve(),
  compiling: () => Promise.resolve(),
};

const records: EncodedRecord[] = (() => {
  const stream = seededStream(8, 'test records');
  return Array.from({ length: 40 }, (_, index) => {
    const text = Int32Array.from({ length: 1 + (index % 7) }, () => 2 + Math.floor(stream.uniform() * 38));
    return encodeRecord({ bosId: 1, eosId: 1, prefix: new Int32Array(0), text, label: index % 2 }, 8);
  });
})();

const initialState = (): TrainingState => {
  const stream = seededStream(9, 'test initial');
  const values = initialValues(parameters, {}, () => stream.uniform());
  return { step: 0, values, ...zeroState(values) };
};
const digest = (state: TrainingState): string => stepDigest({ parameters, computation: '' }, state).toString('hex');

let weights: Record<string, Tensor>;
let trainer: Trainer;
beforeAll(() => {
  weights = smallWeights(config);
  trainer = new Trainer(settings, weights, records);
});
afterAll(() => trainer.dispose());

describe('DP training', () => {
  it('repeats bit for bit, and goes on from a checkpoint as if it had never stopped', async () => {
    const whole = initialState();
    await trainer.train(whole, quiet);

    const directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
    const identity = { nodeKey: 'a', mechanismDigest: 'm', base: 'b', layout };
    const stopped = initialState();
    const stop: TrainerHooks = {
      ...quiet,
      between: ({ step }) => (step === 3 ? Promise.reject(new Error('stopped')) : Promise.resolve()),
      afterStep: async (step) => {
        if (step === 1) await writeCheckpoint(directory, parameters, stopped, identity, () => Promise.resolve());
      },
    };
    await expect(trainer.train(stopped, stop)).rejects.toThrow('stopped');
    const resumed = (await readCheckpoint(directory, training, identity)) as TrainingState;
    expect(resumed.step).toBe(2);
    const other = new Trainer(settings, weights, records);
    await other.train(resumed, quiet);
    other.dispose();
    expect(digest(resumed)).toBe(digest(whole));
    expect(unmovedGroups(parameters, initialState().values, whole.values)).toEqual([]);
  });

  it('has the same bits however many microbatches are computed side by side', async () => {
    const after = async (atOnce: number): Promise<string> => {
      const state = initialState();
      const schedule = { ...settings.schedule, steps: 2 };
      const one = new Trainer({ ...settings, atOnce, schedule }, weights, records);
      await one.train(state, quiet);
      one.dispose();
      return digest(state);
    };
    const alone = await after(1);
    expect(await after(2)).toBe(alone);
    expect(await after(3)).toBe(alone);
  });

  it('draws another batch and other noise from any other state, node, key or way to compute sums', async () => {
    const announced = new Set<string>();
    const one = async (change: Partial<TrainerSettings>, state: TrainingState): Promise<string> => {
      const single = { ...settings, ...change, schedule: { ...settings.schedule, steps: 1 } };
      // No records: what is left of the step is its noise.
      const alone = new Trainer(single, weights, []);
      await alone.train(state, {
        ...quiet,
        beforeStep: async (_, stated) => void announced.add(stated.toString('hex')),
      });
      alone.dispose();
      return digest({ ...state, values: state.first });
    };
    const base = await one({}, initialState());
    expect(await one({}, initialState())).toBe(base);
    expect(announced.size).toBe(1);
    const moved = initialState();
    (moved.values[parameters[0]!.name] as Float32Array)[0]! += 1e-6;
    expect(await one({}, moved)).not.toBe(base);
    expect(await one({ secret: { key, nodeKey: 'b' } }, initialState())).not.toBe(base);
    expect(await one({ secret: { key: Buffer.alloc(32, 4), nodeKey: 'a' } }, initialState())).not.toBe(base);
    // Node and key are those of a ledger entry; what else differs makes another step record there.
    expect(announced.size).toBe(2);
    expect(await one({ machine: 'another' }, initialState())).not.toBe(base);
    expect(await one({ layout: layout.map((shape) => ({ ...shape, rows: 3 })) }, initialState())).not.toBe(base);
    expect(announced.size).toBe(4);
    // Frozen weights of one content key may differ in their last bits.
    expect(await one({ base: 'another' }, initialState())).not.toBe(base);
    expect(announced.size).toBe(5);
  });

  it('adds noise of sigma times C once a logical batch and divides by the expected batch size, also when it is empty', async () => {
    const state = initialState();
    const single = new Trainer({ ...settings, schedule: { ...settings.schedule, steps: 1 } }, weights, []);
    let stated = Buffer.alloc(0);
    await single.train(state, { ...quiet, beforeStep: async (_, announced) => void (stated = Buffer.from(announced)) });
    single.dispose();
    expect(state.step).toBe(1);
    const grid = gridFor(mechanism.clipNorm);
    const { noise } = stepStreams(key, 'a', 0, stated);
    const next = roundedGaussian(noise, deviationOnGrid(mechanism.noiseMultiplier, grid));
    for (const { name } of parameters) {
      for (const value of state.first[name] as Float32Array) {
        expect(value).toBeCloseTo((0.1 * next() * grid.step) / mechanism.expectedBatchSize, 7);
      }
    }
  });

  it('adds noise of sigma times C in float arithmetic, another at each step', async () => {
    const length = 20_000;
    const values = { w: new Float32Array(length) };
    const state: TrainingState = { step: 0, values, ...zeroState(values) };
    const steps: Float32Array[] = [];
    await trainInSteps(
      {
        ...settings,
        parameters: [{ name: 'w', shape: [length], rateMultiple: 1, decays: false }],
        schedule: { ...settings.schedule, steps: 2 },
        mechanism: { ...mechanism, arithmetic: 'float' },
        records: 0,
        computation: '',
      },
      state,
      () =>
        Promise.resolve({
          sums: { w: new Float64Array(length) },
          loss: 0,
          largestNorm: mechanism.clipNorm,
          step: null,
        }),
      { beforeStep: quiet.beforeStep, afterStep: async () => void steps.push(state.first['w']!.slice()) },
    );
    // The first moments are shares of the noise's mean over the batch.
    const noise = [
      steps[0]!.map((mean) => mean / 0.1),
      steps[1]!.map((mean, at) => (mean - 0.9 * steps[0]![at]!) / 0.1),
    ];
    const deviation = (mechanism.noiseMultiplier * mechanism.clipNorm) / mechanism.expectedBatchSize;
    const product = (a: Float32Array, b: Float32Array): number =>
      a.reduce((sum, value, at) => sum + value * b[at]!, 0) / length / deviation ** 2;
    for (const each of noise) expect(Math.abs(product(each, each) - 1)).toBeLessThan(5 * Math.sqrt(2 / length));
    expect(Math.abs(product(noise[0]!, noise[1]!))).toBeLessThan(5 / Math.sqrt(length));
  });

  it('has the same sum to rounding however a logical batch is cut into microbatches', async () => {
    const after = async (rows: number): Promise<TrainingState> => {
      const state = initialState();
      // All records, and noise that rounds to 0: batch and noise of other cuts are others.
      const silent = { ...mechanism, samplingProbability: 1, noiseMultiplier: 1e-9 };
      const schedule = { ...settings.schedule, steps: 1 };
      const cut = { ...settings, layout: [{ time: 8, rows }], mechanism: silent, schedule };
      const one = new Trainer(cut, weights, records);
      await one.train(state, quiet);
      one.dispose();
      return state;
    };
    const [small, large] = [await after(2), await after(16)];
    for (const { name } of parameters) {
      const other = large.first[name] as Float32Array;
      (small.first[name] as Float32Array).forEach((value, index) =>
        expect(Math.abs(value - (other[index] as number))).toBeLessThan(1e-7),
      );
    }
  });

  it('announces each step with the number of records drawn before it uses them, and reports the mean loss of the batch', async () => {
    const log: string[] = [];
    const state = initialState();
    let expected = 0;
    let microbatchCount = 0;
    await trainer.train(state, {
      ...quiet,
      beforeStep: async (step, stated, batchSize) => {
        log.push(`before ${step}`);
        if (step > 0) return;
        const { batch } = stepStreams(key, 'a', 0, stated);
        expected = poissonBatch(batch, records.length, mechanism.samplingProbability).length;
        expect(batchSize).toBe(expected);
      },
      between: async ({ step }) => void (step === 0 && microbatchCount++),
      afterStep: async (step, loss) => {
        log.push(`after ${step}`);
        expect(loss === null || (loss > 1 && loss < 20)).toBe(true);
      },
    });
    expect(log).toEqual([0, 1, 2, 3, 4].flatMap((step) => [`before ${step}`, `after ${step}`]));
    expect(microbatchCount).toBe(Math.ceil(expected / 4));
  });

  it('without DP draws from the seed and adds nothing', async () => {
    const open: TrainerSettings = {
      ...settings,
      mechanism: { kind: 'unbounded' },
      secret: null,
      schedule: { ...settings.schedule, steps: 1 },
    };
    const state = initialState();
    const empty = new Trainer(open, weights, []);
    await empty.train(state, quiet);
    expect(unmovedGroups(parameters, initialState().values, state.values)).toEqual(['lora', 'vectors', 'bias']);
    const losses: number[] = [];
    const learning = new Trainer(
      {
        ...open,
        schedule: { lr: 2e-2, warmup: 1, decay: 'constant', finalLr: 1, steps: 40 },
        unboundedBatch: { samplingProbability: 1, expectedBatchSize: 40, seed: 1 },
      },
      weights,
      records,
    );
    await learning.train(initialState(), { ...quiet, afterStep: async (_, loss) => void losses.push(loss as number) });
    learning.dispose();
    expect(losses.at(-1)).toBeLessThan(0.7 * (losses[0] as number));
  });
});

describe('the largest norm of a contribution', () => {
  it.each(['exact', 'float'] as const)(
    'is read from the bounds in use, below the clip norm, in %s arithmetic',
    (arithmetic) => {
      for (const classes of [0, 2]) {
        for (const clipNorm of [0.5, 0.3, 1, 7.77]) {
          const clipping = clippingFor({ ...mechanism, arithmetic, clipNorm }, { kind: 'lora', classes })!;
          const norm = largestNorm(clipping)!;
          expect(norm).toBeLessThanOrEqual(clipNorm);
          expect(norm).toBeGreaterThan(clipNorm * (1 - 1e-5));
          const [group] = Object.keys(clipping.bounds) as ['lora'];
          const wider = { ...clipping, bounds: { ...clipping.bounds, [group]: clipping.bounds[group]! * 1.1 } };
          expect(largestNorm(wider)!).toBeGreaterThan(clipNorm);
        }
      }
    },
  );

  it('above the clip norm is refused before noise leaves', async () => {
    const values = { w: new Float32Array(1) };
    const state: TrainingState = { step: 0, values, ...zeroState(values) };
    const sums = { w: new Float64Array(1) };
    const training = trainInSteps(
      {
        ...settings,
        parameters: [{ name: 'w', shape: [1], rateMultiple: 1, decays: false }],
        mechanism: { ...mechanism, arithmetic: 'float' },
        records: 0,
        computation: '',
      },
      state,
      () => Promise.resolve({ sums, loss: 0, largestNorm: mechanism.clipNorm * (1 + 1e-9), step: null }),
      quiet,
    );
    await expect(training).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
    expect(state.step).toBe(0);
  });
});

describe('checkpoints', () => {
  const identity = { nodeKey: 'a', mechanismDigest: 'm', base: 'b', layout };
  const written = async (): Promise<string> => {
    const directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
    await writeCheckpoint(directory, parameters, { ...initialState(), step: 7 }, identity, () => Promise.resolve());
    return directory;
  };

  it('of another mechanism or step are refused', async () => {
    const directory = await written();
    const refused = { code: 'MECHANISM_MISMATCH' };
    await expect(readCheckpoint(directory, training, { ...identity, mechanismDigest: 'other' })).rejects.toMatchObject(
      refused,
    );
    await expect(readCheckpoint(directory, training, { ...identity, mechanismDigest: null })).rejects.toMatchObject(
      refused,
    );
    await expect(readCheckpoint(directory, training, { ...identity, nodeKey: 'b' })).rejects.toMatchObject(refused);
    expect(await readCheckpoint(directory, training, identity)).toMatchObject({ step: 7, layout });
  });

  it('of another base are refused with DP, where each step is charged, and count as none without', async () => {
    const directory = await written();
    await expect(readCheckpoint(directory, training, { ...identity, base: 'other' })).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
    });
    const free = { ...identity, mechanismDigest: null };
    await writeCheckpoint(directory, parameters, initialState(), free, () => Promise.resolve());
    expect(await readCheckpoint(directory, training, { ...free, base: 'other' })).toBeNull();
    expect(await readCheckpoint(directory, training, { ...free, nodeKey: 'b' })).toBeNull();
    expect(await readCheckpoint(directory, training, free)).toMatchObject({ step: 0 });
  });

  it.each([
    [undefined],
    [{ time: 8, rows: 4 }],
    [[{ time: 8 }]],
    [[{ time: 8, rows: 0 }]],
    [[{ time: 8.5, rows: 4 }]],
    [[{ time: '8', rows: 4 }]],
    [[null]],
  ])('that cut batches by %j count as none', async (wrong) => {
    const directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
    const spoilt = { ...identity, layout: wrong as unknown as typeof layout };
    await writeCheckpoint(directory, parameters, initialState(), spoilt, () => Promise.resolve());
    expect(await readCheckpoint(directory, training, identity)).toBeNull();
  });

  it.each([undefined, -1, 2.5, NaN, 8])('of step %s of 7 count as none', async (step) => {
    const directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
    const state = { ...initialState(), step: step as number };
    await writeCheckpoint(directory, parameters, state, identity, () => Promise.resolve());
    expect(await readCheckpoint(directory, training, identity)).toBeNull();
  });

  it('of other parameters or shapes count as none', async () => {
    const directory = await written();
    const [first, ...others] = parameters;
    for (const wrong of [
      [{ name: first!.name, shape: [sizeOf(first!)] }, ...others],
      [...parameters, { name: 'one more', shape: [1] }],
    ]) {
      expect(await readCheckpoint(directory, { ...training, parameters: wrong }, identity)).toBeNull();
    }
  });

  it('that are damaged count as none, be it by one bit', async () => {
    const directory = await written();
    const file = join(directory, 'training.safetensors');
    const whole = await readFile(file);
    const header = Number(whole.readBigUInt64LE());
    // The length of the header, its text all over, the data.
    const places = [0, 1, ...Array.from({ length: 60 }, (_, at) => 8 + Math.floor((header / 60) * at)), 8 + header + 5];
    for (const at of [...places, whole.length - 3]) {
      const spoilt = Buffer.from(whole);
      spoilt[at]! ^= 0x01;
      await writeFile(file, spoilt);
      expect(await readCheckpoint(directory, training, identity), `bit of byte ${at}`).toBeNull();
    }
    await writeFile(file, whole);
    expect(await readCheckpoint(directory, training, identity)).toMatchObject({ step: 7 });
    await writeFile(file, whole.subarray(0, 5000));
    expect(await readCheckpoint(directory, training, identity)).toBeNull();
    expect(await readCheckpoint(await mkdtemp(join(tmpdir(), 'checkpoint-')), training, identity)).toBeNull();
  });

  it('do not appear when the attempt has lost its step, and leave no draft', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
    const fenced = (): Promise<void> => Promise.reject(new Error('fenced'));
    await expect(writeCheckpoint(directory, parameters, initialState(), identity, fenced)).rejects.toThrow('fenced');
    expect(await readdir(directory)).toEqual([]);
  });
});
