import { mkdir, readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { run as trainClassifier } from '../../activities/train-classifier.ts';
import { linearNames } from '../../learning/decoder/config.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import type {
  LinearParams,
  TrainClassifierParams,
  TransformerParams,
  WordCnnParams,
} from '../../schemas/step-params.ts';
import { openTinyWorld, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import { openStepOfTests, privacyOf, recordingContext, writeEncoder, type StepOfTests } from './step-of-tests.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

let world: TinyWorld;
let step: StepOfTests;
let encoder: string;
beforeAll(async () => {
  world = await openTinyWorld({ train: 1, withModel: true });
  step = await openStepOfTests();
  encoder = join(step.folder, 'encoder');
  await mkdir(encoder);
  await writeEncoder(encoder);
});
afterAll(async () => {
  world.remove();
  await step.remove();
});

const common = { epsilon: 'inf', batch: 32, epochs: 6, checkpoint: { steps: 10, seconds: 60 }, seed: 1 } as const;
const wordCnn: WordCnnParams = {
  ...common,
  family: 'word-cnn',
  ...{ buckets: 500, words: 16, embedding: 16, filters: 8, widths: [1, 2, 3], dropout: 0.2, lr: 5e-3 },
  dp: { steps: 40, batch: 150, clip: 1, lr: 0.05, buckets: 200, embedding: 8, filters: 8 },
};
const linear: LinearParams = {
  ...common,
  family: 'linear',
  ...{ buckets: 500, words: 16, ngrams: 2, lr: 0.02 },
  dp: { steps: 40, batch: 150, clip: 1, lr: 0.1, buckets: 300 },
};
const decoder: TransformerParams = {
  ...common,
  family: 'transformer',
  method: { kind: 'lora', rank: 4, alpha: 8, targets: ['q', 'v', 'up', 'down'], lr: 0.02 },
  // Two lengths of microbatches: each is a program.
  ...{ pooling: 'mean', sequence: 16, memory: '2GiB', epochs: 4 },
  dp: { steps: 12, batch: 150, clip: 1 },
};
const bert: TransformerParams = {
  ...decoder,
  method: { kind: 'lora', rank: 4, alpha: 8, targets: linearNames({ family: 'bert' }), lr: 0.02 },
};

/** The model of a transformer. */
const modelOf = (params: TrainClassifierParams): { model?: string } => {
  if (params.family !== 'transformer') return {};
  return { model: params === bert ? encoder : join(world.folder, 'base') };
};

interface PredictionsFile {
  labels: number[];
  predicted: number[];
  probabilities: number[][];
}

const families: [string, TrainClassifierParams][] = [
  ['word-cnn', wordCnn],
  ['linear', linear],
  ['transformer, a decoder', decoder],
  ['transformer, an encoder', bert],
];

describe.each(families)('a classifier of the family %s', (name, params) => {
  const steps = params.dp.steps;

  it('learns from real and from synthetic records, repeats for a seed, and writes what it said of public rows', async () => {
    const results: Record<string, number>[] = [];
    for (const synthetic of [false, true, true]) {
      const real = synthetic ? {} : { privacy: privacyOf(null) };
      const input = await step.inputFor({ params, synthetic, ...real, ...modelOf(params) });
      const context = recordingContext();
      const { metrics, proof } = await trainClassifier(input, context);
      expect([proof, context.announced]).toEqual([undefined, []]);
      expect(metrics).toMatchObject({ testRecords: 101, majority: 51 / 101 });
      expect(metrics['accuracy']).toBeGreaterThan(0.9);
      expect(metrics['auroc']).toBeGreaterThan(metrics['accuracy']! - 0.02);
      expect(metrics['logLoss']).toBeLessThan(0.5);
      const read = async (name: string): Promise<unknown> =>
        JSON.parse(await readFile(join(input.outputDirectory, name), 'utf8'));
      expect(await read('metrics.json')).toMatchObject(metrics);
      const { labels, predicted, probabilities } = (await read('predictions.json')) as PredictionsFile;
      expect(labels).toEqual(Array.from({ length: 101 }, (_, row) => row % 2));
      const hits = predicted.filter((label, row) => label === labels[row]).length;
      expect(hits / 101).toBe(metrics['accuracy']);
      probabilities.forEach(([cold, warm], row) => {
        expect(cold! + warm!).toBeCloseTo(1, 5);
        expect(predicted[row]).toBe(warm! > cold! ? 1 : 0);
      });
      results.push(metrics);
    }
    expect(results[2]).toEqual(results[1]);
  });

  it('trains with DP by the reserved mechanism, announces each step, proves what it did, and goes on from a stop', async () => {
    const noised = { params: { ...params, epsilon: 8 }, privacy: privacyOf(steps), ...modelOf(params) };
    const context = recordingContext();
    const { metrics, proof } = await trainClassifier(await step.inputFor(noised), context);
    expect(context.announced).toEqual(Array.from({ length: steps }, (_, at) => at));
    const { kind: _kind, ...reserved } = privacyOf(steps).mechanism as { kind: string };
    expect(proof).toEqual({ sampler: 'poisson', ...reserved });
    expect(metrics['accuracy']).toBeGreaterThan(0.7);

    const checkpoint = join(step.folder, `stopped ${name}`);
    const stopping = recordingContext();
    let done = 0;
    const stopped = {
      ...stopping,
      // Asked to stop in the middle of a step: a checkpoint of the last whole one is written.
      progress: ({ phase, done: at }: { phase: string; done: number }) => {
        if (phase === 'train') done = at;
      },
      get stopping() {
        return done > 6;
      },
      breathe: () => (done > 6 ? Promise.reject(new Error('stopped')) : Promise.resolve()),
    };
    await expect(trainClassifier(await step.inputFor({ ...noised, checkpoint }), stopped)).rejects.toThrow('stopped');
    const resumed = recordingContext();
    const again = await trainClassifier(await step.inputFor({ ...noised, checkpoint }), resumed);
    expect(resumed.announced[0]).toBeGreaterThan(4);
    expect(again).toEqual({ metrics, proof });
  });

  it('tells of a private split by noisy counts only: no probability leaves, nor what was said of a row', async () => {
    const release = {
      ...{ dataset: 'weather', targetEpsilon: 0.1, epsilon: 0.1, delta: 1e-4, accountant: 'pld', digest: 'release' },
      mechanism: { kind: 'discrete-laplace', scale: 10, sensitivity: 1 },
    };
    const input = await step.inputFor({ params, synthetic: true, ...modelOf(params) });
    Object.assign(input.node, { release });
    const { metrics, releaseProof } = await trainClassifier(input, recordingContext());
    expect(Object.keys(metrics).sort()).toEqual(
      ['accuracy', 'accuracyHigh', 'accuracyLow', 'macroF1', 'majority', 'testRecords'].sort(),
    );
    expect(releaseProof).toEqual({ sampler: 'none', scale: 10, sensitivity: 1 });
    expect(existsSync(join(input.outputDirectory, 'predictions.json'))).toBe(false);
  });
});

describe('a transformer whose weights are all trained', () => {
  it.each([
    ['decoder', decoder],
    ['encoder', bert],
  ] as const)('learns without DP and with it, in float arithmetic: %s', async (_, params) => {
    const full: TransformerParams = { ...params, method: { kind: 'full', lr: 5e-3 } };
    const model = modelOf(params);
    const plain = await trainClassifier(
      await step.inputFor({ params: full, privacy: privacyOf(null), ...model }),
      recordingContext(),
    );
    expect(plain.metrics['accuracy']).toBeGreaterThan(0.9);
    const privacy = privacyOf(12, { arithmetic: 'float' });
    const noised = await trainClassifier(
      await step.inputFor({ params: { ...full, epsilon: 8 }, privacy, ...model }),
      recordingContext(),
    );
    expect(noised.proof).toMatchObject({ arithmetic: 'float', steps: 12, sampler: 'poisson' });
    expect(noised.metrics['accuracy']).toBeGreaterThan(0.6);
  });
});

describe('train-classifier', () => {
  it.each([true, false])('tests each record apart from all others where noisy counts leave: %s', async (released) => {
    const release = {
      ...{ dataset: 'weather', targetEpsilon: 0.1, epsilon: 0.1, delta: 1e-4, accountant: 'pld', digest: 'release' },
      mechanism: { kind: 'discrete-laplace', scale: 10, sensitivity: 1 },
    };
    const input = await step.inputFor({ params: { ...wordCnn, epsilon: 8 }, privacy: privacyOf(40) });
    if (released) Object.assign(input.node, { release });
    // Training with DP never asks for the products of some words only.
    const table = vi.spyOn(WordCnn.prototype, 'table');
    await trainClassifier(input, recordingContext());
    expect(table).toHaveBeenCalledTimes(released ? 0 : 1);
    table.mockRestore();
  });

  it('refuses data that are not public without a mechanism, and a mechanism that differs from the parameters', async () => {
    const refused = { code: 'MECHANISM_MISMATCH' };
    const run = async (changes: Parameters<StepOfTests['inputFor']>[0]): Promise<unknown> =>
      trainClassifier(await step.inputFor(changes), recordingContext());
    await expect(run({ params: wordCnn })).rejects.toMatchObject(refused);
    const longer = { ...wordCnn, epsilon: 8, dp: { ...wordCnn.dp, steps: 41 } };
    await expect(run({ params: longer, privacy: privacyOf(40) })).rejects.toMatchObject(refused);
    await expect(run({ params: { ...wordCnn, epsilon: 8 }, privacy: privacyOf(null) })).rejects.toMatchObject(refused);
    const full = { ...decoder, epsilon: 8, method: { kind: 'full' as const, lr: 1e-3 } };
    await expect(run({ params: full, privacy: privacyOf(12), ...modelOf(decoder) })).rejects.toMatchObject(refused);
  });

  it('refuses data that have changed since the plan', async () => {
    const dataset = { ...step.dataset, digest: '0'.repeat(64) };
    const input = await step.inputFor({ params: wordCnn, privacy: privacyOf(null), dataset });
    await expect(trainClassifier(input, recordingContext())).rejects.toMatchObject({ code: 'DATA_CHANGED' });
  });

  it('refuses texts that are longer than the model can read', async () => {
    const long = { ...decoder, sequence: 65 };
    const input = await step.inputFor({ params: long, synthetic: true, ...modelOf(decoder) });
    await expect(trainClassifier(input, recordingContext())).rejects.toMatchObject({ code: 'MODEL_UNFIT' });
  });
});
