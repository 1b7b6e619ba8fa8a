import { describe, expect, it } from 'vitest';

import type { PrivateHooks } from '../../learning/classifier/private-training.ts';
import { privateSchedule } from '../../learning/classifier/private-training.ts';
import { predictions } from '../../learning/classifier/predictions.ts';
import { gridFor } from '../../learning/dp/grid.ts';
import { zeroState } from '../../learning/dp/optimisers.ts';
import type { TrainingState } from '../../learning/dp/checkpoint.ts';
import { featureOf, hashTexts } from '../../learning/linear/features.ts';
import { LinearModel, linearViews, type LinearShape } from '../../learning/linear/model.ts';
import { LinearClipper, trainLinear, trainLinearPrivately, type HashedData } from '../../learning/linear/training.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';

const shape: LinearShape = { buckets: 64, classes: 3 };
const hashing = { buckets: shape.buckets, words: 8, ngrams: 2 };
const texts = ['a b a a c d e', '', 'x', 'one two three four five six seven eight nine', 'b b b', 'c a', 'e d c'];
const data: HashedData = {
  texts: hashTexts(texts, hashing),
  labels: Int32Array.from(texts, (_, index) => index % 3),
};
const all = texts.map((_, index) => index);

function model(deviation = 0.7): LinearModel {
  const made = new LinearModel(shape);
  seededStream(2, 'linear test').fillGaussian(made.flat, deviation);
  return made;
}

/** Gradient of one text's loss by differences: shares nothing but the forward pass with the clipper. */
function differences(of: LinearModel, text: number): Float64Array {
  const outputs = new Float64Array(shape.classes);
  const lossAt = (): number => {
    of.forward(data.texts, text, outputs);
    return -Math.log(outputs[data.labels[text]!]!);
  };
  return Float64Array.from(of.flat, (value, at) => {
    // Weights are in single precision: what was really added counts.
    of.flat[at] = value + 2 ** -8;
    const [above, up] = [lossAt(), of.flat[at]];
    of.flat[at] = value - 2 ** -8;
    const [below, down] = [lossAt(), of.flat[at]];
    of.flat[at] = value;
    return (above - below) / (up - down);
  });
}

const norm = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, v) => sum + v * v, 0));

function clipped(of: LinearModel, clipNorm: number, chosen: readonly number[]): Float64Array {
  const clipper = new LinearClipper(of, data, clipNorm);
  for (const text of chosen) clipper.add(text);
  return clipper.sums;
}

describe('hashed n-grams', () => {
  it('are the distinct words and pairs of words of a text, of length 1 together', () => {
    const buckets = 1 << 20;
    const of = (text: string, ngrams: number): number[] => [
      ...hashTexts([text], { ...hashing, buckets, ngrams }).buckets,
    ];
    expect(of('b a b', 1)).toHaveLength(2);
    expect(of('b a b', 2)).toHaveLength(4);
    expect(of('B  a', 2)).toEqual(of('b a', 2));
    expect(of('a b', 2)).not.toEqual(of('b a', 2));
    expect(hashTexts(['a b c d e f g h i j'], { ...hashing, buckets }).buckets).toHaveLength(8 + 7);
    expect(featureOf(hashTexts(['a b', ''], { ...hashing, buckets }), 0) ** 2 * 3).toBeCloseTo(1, 12);
    expect(featureOf(hashTexts(['a b', ''], hashing), 1)).toBe(0);
  });
});

describe('clipped gradients of the linear classifier', () => {
  it('are those that differences of the loss give, each clipped, in whole steps', () => {
    const linear = model();
    const singles = all.map((text) => differences(linear, text));
    const norms = singles.map(norm);
    const clipNorm = [...norms].sort((a, b) => a - b)[3]! * 1.001;
    const expected = new Float64Array(linear.flat.length);
    singles.forEach((gradient, text) => {
      const factor = Math.min(1, clipNorm / norms[text]!);
      gradient.forEach((value, at) => (expected[at]! += factor * value));
    });
    const { step } = gridFor(clipNorm);
    clipped(linear, clipNorm, all).forEach((units, at) => expect(units * step).toBeCloseTo(expected[at]!, 4));
  });

  it('have the norm of the features and 1 times that of p - y, to the grid, and stay within the clip norm exactly', () => {
    const linear = model();
    const outputs = new Float64Array(shape.classes);
    for (const clipNorm of [1e-3, 4]) {
      const grid = gridFor(clipNorm);
      for (const text of all) {
        linear.forward(data.texts, text, outputs);
        outputs[data.labels[text]!]! -= 1;
        const count = data.texts.starts[text + 1]! - data.texts.starts[text]!;
        const whole = norm(outputs) * Math.sqrt(count > 0 ? 2 : 1);
        const units = clipped(linear, clipNorm, [text]);
        const squares = [...units].reduce((sum, unit) => sum + BigInt(unit) ** 2n, 0n);
        expect(squares <= BigInt(Math.floor(grid.clipNorm)) ** 2n).toBe(true);
        // Truncation takes less than a step from each number that is not zero.
        const least = Math.min(whole, clipNorm) / grid.step - Math.sqrt((count + 1) * shape.classes) - 1;
        expect(Math.sqrt(Number(squares))).toBeGreaterThan(least);
      }
    }
  });

  it('are sums of single ones to the last bit, in any order', () => {
    const linear = model();
    const whole = clipped(linear, 0.7, all);
    expect(clipped(linear, 0.7, [...all].reverse())).toEqual(whole);
    const added = clipped(linear, 0.7, []);
    for (const text of all) clipped(linear, 0.7, [text]).forEach((units, at) => (added[at]! += units));
    expect(added).toEqual(whole);
  });

  it('leave out a text whose gradient is not finite', () => {
    const linear = model();
    const bucket = data.texts.buckets[data.texts.starts[2]!]!;
    const others = all.filter((text) => {
      const own = data.texts.buckets.subarray(data.texts.starts[text]!, data.texts.starts[text + 1]!);
      return !own.includes(bucket);
    });
    expect(others.length).toBeGreaterThan(3);
    linear.flat[bucket * shape.classes] = NaN;
    expect(clipped(linear, 0.7, [...others, 2])).toEqual(clipped(linear, 0.7, others));
    expect(norm(clipped(linear, 0.7, others))).toBeGreaterThan(1);
  });
});

function madeUp(count: number, seed: number): HashedData {
  const stream = seededStream(seed, 'made-up texts');
  const made = Array.from({ length: count }, (_, index) =>
    Array.from({ length: 3 + (index % 4) }, () => `w${Math.floor(stream.uniform() * 12) + (index % 3) * 8}`).join(' '),
  );
  return { texts: hashTexts(made, hashing), labels: Int32Array.from(made, (_, index) => index % 3) };
}

const accuracyOf = async (linear: LinearModel, { texts: hashed, labels }: HashedData): Promise<number> => {
  const size = { records: labels.length, classes: shape.classes };
  const said = await predictions(
    (into) => linear.evaluate(hashed, [...labels.keys()], into),
    size,
    () => Promise.resolve(),
  );
  return said.predicted.filter((label, index) => label === labels[index]).length / labels.length;
};

describe('training of the linear classifier', () => {
  const train = madeUp(600, 4);
  const test = madeUp(300, 5);

  it('learns without DP, and repeats bit for bit', async () => {
    const settings = { lr: 0.05, batch: 32, epochs: 6, seed: 3 };
    const [one, other] = [
      await trainLinear(shape, train, settings, () => Promise.resolve()),
      await trainLinear(shape, train, settings, () => Promise.resolve()),
    ];
    expect(await accuracyOf(one, test)).toBeGreaterThan(0.8);
    expect(other.flat).toEqual(one.flat);
  });

  const mechanism: PoissonGaussianMechanism = {
    kind: 'poisson-gaussian',
    samplingProbability: 0.2,
    noiseMultiplier: 0.5,
    steps: 30,
    clipNorm: 1,
    expectedBatchSize: 120,
    arithmetic: 'exact',
  };
  const quiet: PrivateHooks = {
    beforeStep: () => Promise.resolve(),
    between: () => Promise.resolve(),
    afterStep: () => Promise.resolve(),
  };
  const settings = {
    schedule: privateSchedule({ lr: 0.1, steps: mechanism.steps }),
    mechanism,
    secret: { key: Buffer.alloc(32, 7), nodeKey: 'node' },
    machine: 'this one',
  };
  const startOf = (stored?: TrainingState): { linear: LinearModel; state: TrainingState } => {
    const linear = new LinearModel(shape);
    if (stored) linear.restore(stored.values);
    const values = linearViews(shape, linear.flat);
    return { linear, state: { ...(stored ?? { step: 0, ...zeroState(values) }), values } };
  };

  it('learns with DP, proves its mechanism, and goes on from any step as if it had never stopped', async () => {
    const whole = startOf();
    const kept: TrainingState[] = [];
    const afterStep: PrivateHooks['afterStep'] = async (step) => {
      if (step === 10) kept.push(structuredClone(whole.state));
    };
    const proof = await trainLinearPrivately(whole.linear, train, settings, whole.state, { ...quiet, afterStep });
    const { kind: _, ...used } = mechanism;
    expect(proof).toEqual({ sampler: 'poisson', ...used });
    expect(await accuracyOf(whole.linear, test)).toBeGreaterThan(0.7);
    const resumed = startOf(kept[0]);
    expect(resumed.state.step).toBe(11);
    await trainLinearPrivately(resumed.linear, train, settings, resumed.state, quiet);
    expect(resumed.linear.flat).toEqual(whole.linear.flat);
  });
});
