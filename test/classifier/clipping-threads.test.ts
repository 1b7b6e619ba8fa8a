import type { Worker } from 'node:worker_threads';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { privateSchedule, type PrivateHooks } from '../../learning/classifier/private-training.ts';
import { zeroState } from '../../learning/dp/optimisers.ts';
import { stepDigest } from '../../learning/dp/outer-loop.ts';
import { ClippingThreads } from '../../learning/word-cnn/clipping-threads.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import {
  ClippedGradients,
  namedWeights,
  trainedParameters,
  trainPrivately,
} from '../../learning/word-cnn/private-training.ts';
import { encodeTexts } from '../../learning/word-cnn/words.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';

const shape: WordCnnShape = { buckets: 200, embedding: 6, filters: 5, widths: [1, 3], classes: 3 };
const count = 600;
const stream = seededStream(4, 'made-up texts');
const texts = Array.from({ length: count }, (_, index) =>
  Array.from({ length: 1 + (index % 12) }, () => `w${Math.floor(150 * stream.uniform())}`).join(' '),
);
const data = {
  texts: encodeTexts(texts, { buckets: shape.buckets, words: 10, shortest: wordCnnSizes(shape).widest }),
  labels: Int32Array.from(texts, (_, index) => index % 3),
};
const clipNorm = 0.2;

const newModel = (): WordCnn => new WordCnn(shape, initialWeights(shape, seededStream(5, 'start')));
const inOrder = Int32Array.from(texts.keys());
const nothingBetween = (): Promise<void> => Promise.resolve();

let workers: Worker[];
const remember = (worker: Worker): void => void workers.push(worker);
beforeEach(() => {
  workers = [];
  process.on('worker', remember);
});
afterEach(() => {
  process.off('worker', remember);
  // An ended thread has no number any more.
  expect(workers.map(({ threadId }) => threadId)).toEqual(workers.map(() => -1));
});

async function withThreads<T>(model: WordCnn, threads: number, use: (of: ClippingThreads) => Promise<T>): Promise<T> {
  const of = new ClippingThreads(model, data, { clipNorm, threads });
  try {
    return await use(of);
  } finally {
    await of.end();
  }
}

/** The same by one loop on the main thread. */
function expected(model: WordCnn, drawn: Int32Array): { sums: number[]; loss: number } {
  const clipped = new ClippedGradients(model, data, clipNorm);
  let loss = 0;
  for (const text of drawn) loss += clipped.add(text);
  const { embedding, convolution, convolutionBias, dense, denseBias } = clipped.sums;
  const parts = [embedding, convolution, convolutionBias, dense, denseBias];
  return { sums: parts.flatMap((part) => Array.from(part!)), loss };
}

async function summed(threads: ClippingThreads, drawn: Int32Array, microbatch = 256): Promise<unknown> {
  const sums = new Float64Array(newModel().weights.flat.length);
  const loss = await threads.add(drawn, sums, microbatch, nothingBetween);
  return { sums: Array.from(sums), loss };
}

describe('threads that clip gradients', () => {
  it.each([1, 2, 3])('give the sums and the loss of one loop, bit for bit: %i of them', async (threads) => {
    const model = newModel();
    await withThreads(model, threads, async (of) => {
      const whole = expected(model, inOrder);
      expect(Math.max(...whole.sums)).toBeGreaterThan(2 ** 21);
      expect(await summed(of, inOrder)).toEqual(whole);
      const backwards = inOrder.slice().reverse();
      expect(await summed(of, backwards)).toEqual(expected(model, backwards));
      expect(expected(model, backwards).sums).toEqual(whole.sums);
      // Fewer texts than threads take at once, and other weights.
      model.weights.flat.forEach((weight, at) => (model.weights.flat[at] = weight * 0.5));
      const few = Int32Array.of(7, 300, 2);
      expect(await summed(of, few)).toEqual(expected(model, few));
    });
  });

  it('say when each microbatch is done, in order', async () => {
    const said: number[] = [];
    await withThreads(newModel(), 2, async (of) => {
      const sums = new Float64Array(newModel().weights.flat.length);
      await of.add(inOrder, sums, 250, async (microbatch) => void said.push(microbatch));
    });
    expect(said).toEqual([1, 2, 3]);
  });

  const died = { code: 'JOB_CRASHED', message: 'A thread of the training ended before its work was done.' };

  it.each([
    ['has thrown', (worker: Worker) => worker.postMessage(null)],
    ['was ended', (worker: Worker) => void worker.terminate()],
  ])('fail, and add nothing, when one %s', async (_, kill) => {
    await withThreads(newModel(), 2, async (of) => {
      const sums = new Float64Array(newModel().weights.flat.length);
      const between = async (microbatch: number): Promise<void> => {
        if (microbatch > 1) return;
        const exit = new Promise((resolve) => of.workers[1]!.once('exit', resolve));
        kill(of.workers[1]!);
        await exit;
      };
      await expect(of.add(inOrder, sums, 16, between)).rejects.toMatchObject(died);
      expect(sums.every((sum) => sum === 0)).toBe(true);
      await expect(of.add(inOrder, sums, 16, nothingBetween)).rejects.toMatchObject(died);
    });
  });
});

describe('DP training by threads', () => {
  const mechanism: PoissonGaussianMechanism = {
    kind: 'poisson-gaussian',
    samplingProbability: 0.9,
    noiseMultiplier: 0.7,
    steps: 30,
    clipNorm,
    expectedBatchSize: 540,
    arithmetic: 'exact',
  };
  const settings = {
    schedule: privateSchedule({ lr: 0.05, steps: mechanism.steps }),
    mechanism,
    secret: { key: Buffer.alloc(32, 7), nodeKey: 'node' },
    machine: 'this one',
  };
  const quiet: PrivateHooks = { beforeStep: nothingBetween, between: nothingBetween, afterStep: nothingBetween };

  interface Training {
    run(hooks: PrivateHooks): Promise<unknown>;
    digest(): string;
  }

  function newTraining(): Training {
    const model = newModel();
    const values = namedWeights(model.weights);
    const state = { step: 0, values, ...zeroState(values) };
    return {
      run: (hooks) => trainPrivately(model, data, settings, state, hooks),
      digest: () => stepDigest({ parameters: trainedParameters(shape), computation: '' }, state).toString('hex'),
    };
  }

  it('repeats bit for bit, also where its last steps are not worth threads', async () => {
    const whole = newTraining();
    await whole.run(quiet);
    const started = workers.length;
    expect(started).toBeGreaterThan(0);
    const stopped = newTraining();
    const afterStep = (step: number): Promise<void> =>
      step === 24 ? Promise.reject(new Error('stopped')) : Promise.resolve();
    await expect(stopped.run({ ...quiet, afterStep })).rejects.toThrow('stopped');
    await stopped.run(quiet);
    expect(workers.length).toBe(2 * started);
    expect(stopped.digest()).toBe(whole.digest());
  });

  it('leaves no thread behind when a hook stops it', async () => {
    const stop = (): Promise<void> => Promise.reject(new Error('stopped'));
    for (const hooks of [{ beforeStep: stop }, { between: stop }, { afterStep: stop }]) {
      await expect(newTraining().run({ ...quiet, ...hooks })).rejects.toThrow('stopped');
    }
    expect(workers.length).toBeGreaterThan(0);
  });
});
