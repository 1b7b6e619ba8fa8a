/**
 * @file Breaks the trainer on purpose, and finds it out from outside, by white-box gradient canaries.
 *
 * The trainer is the product's own DP-SGD of the word-CNN: Poisson sampling, exact clipping, exact noise, the outer loop.
 * Its model is made so that a text of one word has its gradient in that word's vector alone, at four times the clip norm:
 * each word is a canary with a direction of its own, which a coin puts into the data. Who sees all that is released, the
 * optimiser's state of every step, sees a noisy sum in each canary's direction. Noise and coins of canaries are independent,
 * so that their scores are, and a threshold fixed beforehand finds a share of those that are in (TPR) and of those that are
 * not (FPR). For a mechanism that is (e, d)-DP for each pair of its privacy curve, TPR <= exp(e) FPR + d. An alarm is given
 * when that is refuted with a failure probability of 1e-6: half of it for each of the two shares (Clopper and Pearson).
 *
 * Power, computed beforehand from the binomials of both shares: on all records (16,000 canaries, one step, threshold half of
 * a canary's contribution) half of the noise is found with probability 1 - 7e-11, a norm that is not clipped with 1 - 3e-15;
 * on samples (7,000 canaries, 50 steps of 5 %, threshold 3.5 deviations) a batch that is used again with 1 - 2e-7. The
 * unbroken trainer gives an alarm with probability 1e-11 at most. The noise is that of epsilon 1 at delta 1e-5.
 */

import { describe, expect, it, vi } from 'vitest';

import { usualAdam, zeroState } from '../../learning/dp/optimisers.ts';
import type { TrainingState } from '../../learning/dp/checkpoint.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import { zeroWeights, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import { namedWeights, trainPrivately } from '../../learning/word-cnn/private-training.ts';
import { auditOneRun } from '../../measures/audit/index.ts';
import { clopperPearson } from '../../measures/index.ts';
import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../../privacy/calibration.ts';
import { mechanismEvent } from '../../privacy/ledger/admission.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';

type Fault = 'no clipping' | 'noise forgotten' | 'noise too small by 2' | 'batch reused';

/** What is wrong with the trainer at present, and the batch that it uses again. */
const broken = vi.hoisted(() => ({ by: null as Fault | null, batch: null as Int32Array | null }));

vi.mock(import('../../privacy/exact-gaussian.ts'), async (original) => {
  const real = await original();
  return {
    ...real,
    roundedGaussian: (stream, deviation) => {
      if (broken.by === 'noise forgotten') return () => 0;
      return real.roundedGaussian(stream, broken.by === 'noise too small by 2' ? deviation / 2 : deviation);
    },
  };
});

vi.mock(import('../../privacy/poisson.ts'), async (original) => {
  const real = await original();
  return {
    ...real,
    poissonBatch: (...given) => {
      const batch = real.poissonBatch(...given);
      return broken.by === 'batch reused' ? (broken.batch ??= batch) : batch;
    },
  };
});

vi.mock(import('../../learning/word-cnn/text-clipper.ts'), async (original) => {
  const real = await original();
  class TextClipper extends real.TextClipper {
    constructor(...given: ConstructorParameters<typeof real.TextClipper>) {
      super(...given);
      if (broken.by !== 'no clipping') return;
      // The grid stays, and the norm that contributions are clipped to is forgotten.
      const grid = Reflect.get(this, 'grid') as { step: number; clipNorm: number };
      Reflect.set(this, 'grid', { ...grid, clipNorm: 64 * grid.clipNorm });
    }
  }
  return { ...real, TextClipper };
});

const claimed = { targetEpsilon: 1, delta: 1e-5 };
const failure = 1e-6;

interface Setting {
  canaries: number;
  samplingProbability: number;
  steps: number;
  /** From which score on a canary is taken to be in; a sampled one adds 1 each time. */
  threshold: number;
  mechanism: PoissonGaussianMechanism;
}

/** The gradient has norm |d loss / d response| times this, about 538. */
const slope = 1000;
const clipNorm = 128;

function settingOf(
  { canaries, samplingProbability, steps }: Pick<Setting, 'canaries' | 'samplingProbability' | 'steps'>,
  thresholdOf: (deviation: number) => number,
): Setting {
  const { noiseMultiplier } = calibrateNoiseMultiplier({ ...claimed, samplingProbability, steps });
  const mechanism: PoissonGaussianMechanism = {
    ...{ kind: 'poisson-gaussian', samplingProbability, noiseMultiplier, steps, clipNorm, arithmetic: 'exact' },
    expectedBatchSize: (samplingProbability * canaries) / 2,
  };
  const threshold = thresholdOf(noiseMultiplier * Math.sqrt(steps));
  return { canaries, samplingProbability, steps, threshold, mechanism };
}

/** All records at once; the threshold is half of what a canary adds. */
const whole = settingOf({ canaries: 16_000, samplingProbability: 1, steps: 1 }, () => 0.5);
/** Small batches; the threshold is 3.5 standard deviations of a canary's noise. */
const sampled = settingOf({ canaries: 7_000, samplingProbability: 0.05, steps: 50 }, (deviation) => 3.5 * deviation);

/** Trains on the canaries that are in; gives what each one's direction of the released sums adds up to, in clip norms. */
async function scoresOf({ canaries, mechanism }: Setting, included: Uint8Array, seed: number): Promise<Float64Array> {
  const shape: WordCnnShape = { buckets: canaries + 1, embedding: 1, filters: 1, widths: [1], classes: 2 };
  const weights = zeroWeights(shape);
  weights.convolution[0] = slope;
  weights.convolutionBias[0] = 0.5;
  weights.dense.set([1, -1]);
  const model = new WordCnn(shape, weights);
  const words = Int32Array.from([...included.keys()].filter((canary) => included[canary] === 1)).map(
    (each) => each + 1,
  );
  const data = {
    texts: { words, starts: Int32Array.from({ length: words.length + 1 }, (_, text) => text) },
    labels: new Int32Array(words.length),
  };
  const values = namedWeights(weights);
  const state: TrainingState = { step: 0, values, ...zeroState(values) };
  const scores = new Float64Array(canaries);
  let before = new Float32Array(canaries + 1);
  const { steps, expectedBatchSize } = mechanism;
  await trainPrivately(
    model,
    data,
    {
      // A step moves no weight by more than this: gradients stay what they are.
      schedule: { lr: 1e-9, steps, warmup: 0, decay: 'constant', finalLr: 1 },
      mechanism,
      secret: { key: Buffer.alloc(32, seed), nodeKey: 'canaries' },
      machine: 'this one',
    },
    state,
    {
      beforeStep: () => Promise.resolve(),
      between: () => Promise.resolve(),
      afterStep: () => {
        const moments = state.first['embedding']!;
        for (let canary = 0; canary < canaries; canary++) {
          const old = usualAdam.beta1 * before[canary + 1]!;
          const gradient = (moments[canary + 1]! - old) / (1 - usualAdam.beta1);
          scores[canary]! -= (gradient * expectedBatchSize) / clipNorm;
        }
        before = moments.slice();
        return Promise.resolve();
      },
    },
  );
  return scores;
}

interface Verdict {
  alarm: boolean;
  /** Lower bound of epsilon at delta 1e-10 by one run, and what the mechanism claims there. */
  bound: number;
  claim: number;
}

async function audit(setting: Setting, seed: number, fault: Fault | null): Promise<Verdict> {
  const coins = seededStream(seed, 'coins');
  const included = Uint8Array.from({ length: setting.canaries }, () => Number(coins.uniform() < 0.5));
  Object.assign(broken, { by: fault, batch: null });
  const scores = await scoresOf(setting, included, seed);
  const shareAbove = (part: number): { low: number; high: number } => {
    const own = scores.filter((_, canary) => included[canary] === part);
    return clopperPearson(own.filter((score) => score > setting.threshold).length, own.length, 1 - failure);
  };
  const [found, mistaken] = [shareAbove(1).low, shareAbove(0).high];
  const event = mechanismEvent(setting.mechanism)!;
  const allowed = curveOf(setting).map(([epsilon, delta]) => Math.exp(epsilon) * mistaken + delta);
  const delta = 1e-10;
  return {
    alarm: found > Math.min(...allowed),
    bound: auditOneRun(scores, included, { delta, failure }).epsilon,
    claim: composedEpsilon([event], delta).epsilon,
  };
}

/** Pairs of the mechanism's privacy curve, by the accountant. */
function curveOf({ mechanism }: Setting): [epsilon: number, delta: number][] {
  const deltas = Array.from({ length: 60 }, (_, place) => 1e-5 * 0.5e5 ** (place / 59));
  return deltas.map((delta) => [composedEpsilon([mechanismEvent(mechanism)!], delta).epsilon, delta]);
}

const verdicts = async (setting: Setting, seeds: number, fault: Fault | null): Promise<Verdict[]> => {
  const found: Verdict[] = [];
  for (let seed = 0; seed < seeds; seed++) found.push(await audit(setting, seed, fault));
  return found;
};

describe('the trainer', () => {
  it.each([
    ['on all records', whole],
    ['on samples', sampled],
  ])('gives no alarm in 20 seeds, %s', async (_, setting) => {
    const unbroken = await verdicts(setting, 20, null);
    expect(unbroken.map(({ alarm }) => alarm)).toEqual(Array.from({ length: 20 }, () => false));
    for (const { bound, claim } of unbroken) expect(bound).toBeLessThanOrEqual(claim);
  });

  it.each<[Fault, Setting]>([
    ['no clipping', whole],
    ['noise forgotten', whole],
    ['noise too small by 2', whole],
    ['batch reused', sampled],
  ])('is found out in 5 of 5 seeds with a fault: %s', async (fault, setting) => {
    const found = await verdicts(setting, 5, fault);
    expect(found.map(({ alarm }) => alarm)).toEqual([true, true, true, true, true]);
  });

  it('without noise has a bound above what it claims, and above 1, from one run and no independence', async () => {
    for (const { bound, claim } of await verdicts(whole, 5, 'noise forgotten')) {
      expect(bound).toBeGreaterThan(1);
      expect(bound).toBeGreaterThan(claim);
    }
  });
});
