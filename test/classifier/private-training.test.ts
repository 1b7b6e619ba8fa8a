import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { privateSchedule, type PrivateHooks } from '../../learning/classifier/private-training.ts';
import { predictions, scoreOf } from '../../learning/classifier/predictions.ts';
import { deviationOnGrid, gridFor } from '../../learning/dp/grid.ts';
import { zeroState } from '../../learning/dp/optimisers.ts';
import { readCheckpoint, writeCheckpoint, type TrainingState } from '../../learning/dp/checkpoint.ts';
import { stepDigest } from '../../learning/dp/outer-loop.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import {
  namedWeights,
  trainedParameters,
  trainPrivately,
  weightsOf,
} from '../../learning/word-cnn/private-training.ts';
import type { LabelledTexts } from '../../learning/word-cnn/training.ts';
import { encodeTexts } from '../../learning/word-cnn/words.ts';
import { roundedGaussian } from '../../privacy/exact-gaussian.ts';
import { seededStream, stepStreams } from '../../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';

const shape: WordCnnShape = { buckets: 50, embedding: 4, filters: 3, widths: [1, 2], classes: 2 };
const parameters = trainedParameters(shape);
const mechanism: PoissonGaussianMechanism = {
  kind: 'poisson-gaussian',
  samplingProbability: 0.2,
  noiseMultiplier: 0.7,
  steps: 6,
  clipNorm: 0.5,
  expectedBatchSize: 40,
  arithmetic: 'exact',
};
const settings = {
  schedule: privateSchedule({ lr: 0.05, steps: mechanism.steps }),
  mechanism,
  secret: { key: Buffer.alloc(32, 7), nodeKey: 'node' },
  machine: 'this one',
};
const quiet: PrivateHooks = {
  beforeStep: () => Promise.resolve(),
  between: () => Promise.resolve(),
  afterStep: () => Promise.resolve(),
};

function madeUp(count: number): LabelledTexts {
  const stream = seededStream(4, 'made-up texts');
  const texts = Array.from({ length: count }, (_, index) =>
    Array.from({ length: 2 + (index % 6) }, () => `w${Math.floor(stream.uniform() * 20) + (index % 2) * 10}`).join(' '),
  );
  return {
    texts: encodeTexts(texts, { buckets: shape.buckets, words: 8, shortest: wordCnnSizes(shape).widest }),
    labels: Int32Array.from(texts, (_, index) => index % 2),
  };
}
const data = madeUp(200);
const nothing = madeUp(0);

function start(state?: TrainingState): { model: WordCnn; state: TrainingState } {
  const weights = state ? weightsOf(shape, state.values) : initialWeights(shape, seededStream(1, 'start'));
  const values = namedWeights(weights);
  return { model: new WordCnn(shape, weights), state: { ...(state ?? { step: 0, ...zeroState(values) }), values } };
}

const digest = (state: TrainingState): string => stepDigest({ parameters, computation: '' }, state).toString('hex');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'classifier '));
});
afterAll(() => rm(folder, { recursive: true }));

describe('DP training of the word-CNN', () => {
  it('repeats bit for bit, and goes on from a checkpoint as if it had never stopped', async () => {
    const whole = start();
    await trainPrivately(whole.model, data, settings, whole.state, quiet);
    expect(whole.state.step).toBe(6);

    const identity = { nodeKey: 'node', mechanismDigest: 'm', base: null, layout: [{ rows: 256, time: 8 }] };
    const stopped = start();
    const hooks: PrivateHooks = {
      ...quiet,
      between: ({ step }) => (step === 4 ? Promise.reject(new Error('stopped')) : Promise.resolve()),
      afterStep: async (step) => {
        if (step === 2) await writeCheckpoint(folder, parameters, stopped.state, identity, () => Promise.resolve());
      },
    };
    await expect(trainPrivately(stopped.model, data, settings, stopped.state, hooks)).rejects.toThrow('stopped');
    const stored = (await readCheckpoint(folder, { parameters, steps: 6 }, identity))!;
    expect(stored.step).toBe(3);
    const resumed = start(stored);
    await trainPrivately(resumed.model, data, settings, resumed.state, quiet);
    expect(digest(resumed.state)).toBe(digest(whole.state));
    expect(Array.from(resumed.model.weights.flat)).toEqual(Array.from(whole.model.weights.flat));
  });

  it('announces every step before it, also one with an empty batch, and keeps padding at zero', async () => {
    const { model, state } = start();
    const events: string[] = [];
    await trainPrivately(model, nothing, settings, state, {
      beforeStep: async (step) => void events.push(`before ${step}`),
      between: async () => void events.push('between'),
      afterStep: async (step, loss) => void events.push(`after ${step} ${loss}`),
    });
    expect(events).toEqual([0, 1, 2, 3, 4, 5].flatMap((step) => [`before ${step}`, `after ${step} null`]));
    expect(model.weights.embedding.subarray(0, shape.embedding).every((value) => value === 0)).toBe(true);
  });

  it('adds the noise of the keyed stream once a step, over the expected batch size', async () => {
    const { model, state } = start();
    const single = { ...settings, schedule: { ...settings.schedule, steps: 1 } };
    let stated = Buffer.alloc(0);
    const beforeStep: PrivateHooks['beforeStep'] = async (_, announced) => void (stated = Buffer.from(announced));
    await trainPrivately(model, nothing, single, state, { ...quiet, beforeStep });
    const { noise } = stepStreams(settings.secret.key, 'node', 0, stated);
    const grid = gridFor(mechanism.clipNorm);
    const next = roundedGaussian(noise, deviationOnGrid(mechanism.noiseMultiplier, grid));
    for (const { name, shape: size } of parameters) {
      const expected = Float64Array.from({ length: size.reduce((a, b) => a * b, 1) }, () => next() * grid.step);
      // Adam's first moment after one step is 0.1 of the gradient.
      const gradient = Array.from(state.first[name]!, (value) => value * 10 * mechanism.expectedBatchSize);
      gradient.forEach((value, index) => expect(value).toBeCloseTo(expected[index]!, 5));
    }
  });

  it('has another step record and other noise on another machine', async () => {
    const one = async (machine: string): Promise<{ stated: string; after: string }> => {
      const { model, state } = start();
      const single = { ...settings, machine, schedule: { ...settings.schedule, steps: 1 } };
      let stated = '';
      const beforeStep: PrivateHooks['beforeStep'] = async (_, announced) => void (stated = announced.toString('hex'));
      await trainPrivately(model, nothing, single, state, { ...quiet, beforeStep });
      return { stated, after: digest(state) };
    };
    const here = await one('this one');
    expect(await one('this one')).toEqual(here);
    const there = await one('another');
    expect(there.stated).not.toBe(here.stated);
    expect(there.after).not.toBe(here.after);
  });

  it('learns when the noise is small', async () => {
    const { model, state } = start();
    const easy = { ...mechanism, noiseMultiplier: 0.01, steps: 40 };
    const longer = { ...settings, mechanism: easy, schedule: privateSchedule({ lr: 0.05, steps: 40 }) };
    await trainPrivately(model, data, longer, state, quiet);
    const all = Int32Array.from(data.labels, (_, index) => index);
    const size = { records: all.length, classes: shape.classes };
    const said = await predictions(
      (into) => model.evaluate(data.texts, all, into),
      size,
      () => Promise.resolve(),
    );
    expect(scoreOf(said, data.labels).accuracy).toBeGreaterThan(0.85);
  });
});
