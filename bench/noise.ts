/**
 * @file What exact arithmetic costs in a training step: noise that is sampled exactly, and gradients that are truncated to
 * a grid and checked. The peer is a twentieth of the whole step.
 *
 * Noise is measured by itself. Truncation is what the compiled gradient takes longer than the one that clips in floating
 * point; both run in turns. Of repeated times the least counts: what else the machine does only adds.
 */

import { join } from 'node:path';

import { initialValues, sizeOf, trainedParameters, type AdapterShape } from '../learning/tuning/parameters.ts';
import { disposeTree } from '../learning/compile/index.ts';
import { linearNames } from '../learning/decoder/config.ts';
import { usualAdam, zeroState } from '../learning/dp/optimisers.ts';
import { compileMicrobatchGradient, microbatchTensors } from '../learning/dp/gradients.ts';
import { checkRange, deviationOnGrid, gridFor } from '../learning/dp/grid.ts';
import { microbatchShapes } from '../learning/dp/memory.ts';
import { encodeRecord, microbatches, type EncodedRecord } from '../learning/dp/sequences.ts';
import { Trainer, clippingFor } from '../learning/dp/trainer.ts';
import { readModel, type Model } from '../learning/formats/model.ts';
import { callsAtOnce, machine } from '../learning/machine.ts';
import { tf, type Tensor } from '../learning/tensorflow.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../learning/word-cnn/parameters.ts';
import { privateSchedule } from '../learning/classifier/private-training.ts';
import { namedWeights, trainPrivately } from '../learning/word-cnn/private-training.ts';
import { WordCnn } from '../learning/word-cnn/network.ts';
import { encodeTexts } from '../learning/word-cnn/words.ts';
import { roundedGaussian } from '../privacy/exact-gaussian.ts';
import { seededStream, stepStreams } from '../privacy/noise.ts';
import type { PoissonGaussianMechanism } from '../schemas/plan.ts';
import { packageRoot } from '../stack/paths.ts';
import { type Bench, type BenchCase, type MeasureOptions } from './bench-case.ts';

const share = 0.05;
const peerName = '5 % of the training step';
const sequence = 48;
const secret = { key: Buffer.alloc(32, 1), nodeKey: 'bench' };
const tuned: AdapterShape = { kind: 'lora', rank: 8, alpha: 16, targets: linearNames({ family: 'llama' }), classes: 2 };

const mechanismFor = (batch: number, steps: number, arithmetic: 'exact' | 'float'): PoissonGaussianMechanism => ({
  kind: 'poisson-gaussian',
  samplingProbability: 0.5,
  noiseMultiplier: 0.7,
  steps,
  clipNorm: 0.5,
  expectedBatchSize: batch,
  arithmetic,
});

/** Made-up records of all lengths. */
function madeUpRecords(count: number, vocabulary: number): EncodedRecord[] {
  const stream = seededStream(1, 'bench records');
  const token = (): number => Math.floor(stream.uniform() * vocabulary);
  return Array.from({ length: count }, (_, index) => {
    const text = Int32Array.from({ length: 8 + Math.floor(stream.uniform() * sequence) }, token);
    return encodeRecord({ bosId: 0, eosId: 0, prefix: new Int32Array(0), text, label: index % 2 }, sequence);
  });
}

/** Milliseconds that the noise of one step takes. */
function noiseTime(parameters: number, repetitions: number): number {
  const mechanism = mechanismFor(1024, 1, 'exact');
  const grid = gridFor(mechanism.clipNorm);
  const times = Array.from({ length: repetitions }, (_, step) => {
    const started = performance.now();
    const { noise } = stepStreams(secret.key, secret.nodeKey, step, Buffer.alloc(32));
    const sums = new Float64Array(parameters);
    checkRange(sums);
    const next = roundedGaussian(noise, deviationOnGrid(mechanism.noiseMultiplier, grid));
    for (let index = 0; index < sums.length; index++) sums[index]! += next();
    return performance.now() - started;
  });
  return Math.min(...times);
}

const layoutFor = ({ config }: Model) => microbatchShapes(config, tuned, { sequence, memory: 4 * 2 ** 30 });

/** Milliseconds by which a step's gradients take longer in exact arithmetic. */
function truncationTime(model: Model, records: readonly EncodedRecord[], repetitions: number): number {
  const layout = layoutFor(model);
  const parameters = trainedParameters(model.config, tuned);
  const stream = seededStream(2, 'bench adapter');
  const values = initialValues(parameters, {}, () => stream.uniform());
  const tensors = Object.fromEntries(
    parameters.map(({ name, shape }) => [name, tf.tensor(values[name]!, shape) as Tensor]),
  );
  const all = Int32Array.from(records.keys());
  const batches = microbatches(records, all, layout, 0);
  let total = 0;
  for (const shape of layout) {
    const ofShape = batches.filter((batch) => batch.shape.time === shape.time);
    if (ofShape.length === 0) continue;
    const inputs = { weights: model.weights, adapter: tensors, ...microbatchTensors(ofShape[0]!) };
    const programs = (['exact', 'float'] as const).map((arithmetic) =>
      compileMicrobatchGradient(model.config, tuned, clippingFor(mechanismFor(1, 1, arithmetic), tuned), shape),
    );
    const times = programs.map((): number[] => []);
    for (let repetition = -1; repetition < repetitions; repetition++) {
      for (const [index, program] of programs.entries()) {
        const started = performance.now();
        const outputs = program(inputs);
        for (const sum of Object.values(outputs.sums)) sum.dataSync();
        // The first call compiles.
        if (repetition >= 0) times[index]!.push(performance.now() - started);
        disposeTree(outputs);
      }
    }
    total += ofShape.length * (Math.min(...times[0]!) - Math.min(...times[1]!));
    programs.forEach((program) => program.dispose());
  }
  disposeTree(tensors);
  return Math.max(0, total);
}

/** Least milliseconds of the steps between these moments, without the first, which compiles. */
const stepTime = (moments: readonly number[]): number =>
  Math.min(...moments.slice(2).map((moment, index) => moment - moments[index + 1]!));

async function loraStepTime(model: Model, records: readonly EncodedRecord[], batch: number, steps: number) {
  const mechanism = mechanismFor(batch, steps, 'exact');
  const trainer = new Trainer(
    {
      ...{ config: model.config, tuned, mechanism, secret, layout: layoutFor(model), padId: 0 },
      ...{ atOnce: callsAtOnce(), machine: machine() },
      base: null,
      optimizer: usualAdam,
      schedule: { lr: 5e-3, warmup: 1, decay: 'linear', finalLr: 0.1, steps },
      unboundedBatch: { samplingProbability: 0, expectedBatchSize: 1, seed: 0 },
    },
    model.weights,
    records,
  );
  const stream = seededStream(3, 'bench adapter');
  const values = initialValues(trainer.parameters, {}, () => stream.uniform());
  const moments: number[] = [performance.now()];
  await trainer.train(
    { step: 0, values, ...zeroState(values) },
    {
      beforeStep: () => Promise.resolve(),
      between: () => Promise.resolve(),
      compiling: () => Promise.resolve(),
      afterStep: async () => void moments.push(performance.now()),
    },
  );
  trainer.dispose();
  return stepTime(moments);
}

async function lora(batch: number, { quick, say }: MeasureOptions): Promise<{ ours: number; peer: number }> {
  const model = await readModel(join(packageRoot, 'models', 'base'));
  try {
    // Half of them are drawn for a step, and a whole batch stands for the gradients of one.
    const records = madeUpRecords(2 * batch, model.config.vocab);
    const parameters = trainedParameters(model.config, tuned).reduce((sum, each) => sum + sizeOf(each), 0);
    const noise = noiseTime(parameters, quick ? 3 : 20);
    const truncation = truncationTime(model, records.slice(0, batch), quick ? 3 : 15);
    const step = await loraStepTime(model, records, batch, quick ? 3 : 8);
    say(`  ${parameters} parameters: noise ${noise.toFixed(1)} ms, truncation ${truncation.toFixed(1)} ms`);
    say(`  step ${step.toFixed(0)} ms, of it ${((100 * (noise + truncation)) / step).toFixed(2)} %`);
    return { ours: noise + truncation, peer: share * step };
  } finally {
    disposeTree(model.weights);
  }
}

async function wordCnn(batch: number, { quick, say }: MeasureOptions): Promise<{ ours: number; peer: number }> {
  const shape: WordCnnShape = { buckets: 20_000, embedding: 16, filters: 32, widths: [2, 3, 4], classes: 2 };
  const stream = seededStream(1, 'bench texts');
  const texts = Array.from({ length: 2 * batch }, () =>
    // Some words are a hundred times as frequent as others.
    Array.from({ length: 10 + Math.floor(stream.uniform() * 30) }, () => `w${Math.floor(1e4 ** stream.uniform())}`),
  ).map((words) => words.join(' '));
  const data = {
    texts: encodeTexts(texts, { buckets: shape.buckets, words: 64, shortest: wordCnnSizes(shape).widest }),
    labels: Int32Array.from(texts.keys(), (index) => index % 2),
  };
  const weights = initialWeights(shape, stream, 0.05);
  const values = namedWeights(weights);
  const steps = quick ? 3 : 12;
  const moments: number[] = [performance.now()];
  await trainPrivately(
    new WordCnn(shape, weights),
    data,
    {
      ...{ schedule: privateSchedule({ lr: 0.01, steps }), mechanism: mechanismFor(batch, steps, 'exact') },
      ...{ secret, machine: machine() },
    },
    { step: 0, values, ...zeroState(values) },
    {
      beforeStep: () => Promise.resolve(),
      between: () => Promise.resolve(),
      afterStep: async () => void moments.push(performance.now()),
    },
  );
  const step = stepTime(moments);
  const noise = noiseTime(weights.flat.length, quick ? 3 : 20);
  say(`  ${weights.flat.length} parameters: noise ${noise.toFixed(1)} ms, step ${step.toFixed(0)} ms`);
  return { ours: noise, peer: share * step };
}

const common = { unit: 'ms', better: 'less', peerName } as const satisfies Partial<BenchCase>;

export const noise: Bench = {
  name: 'noise',
  cases: [
    { ...common, name: 'lora-batch-1024', goal: 1, measure: (options) => lora(1024, options) },
    { ...common, name: 'lora-batch-32', goal: null, measure: (options) => lora(32, options) },
    // Only the noise: truncation is not told apart from the rest of a text's gradient.
    { ...common, name: 'word-cnn-batch-2048-noise', goal: null, measure: (options) => wordCnn(2048, options) },
  ],
};
