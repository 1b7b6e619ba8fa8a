/**
 * @file The learning engine against PyTorch with Opacus and transformers: training steps and sampling, in turns in one run.
 *
 * Both sides do the same work on the same architecture: forward, backward, clipping of each example, noise and Adam, in
 * float32 with all cores. Ours is what a step of an experiment runs, with exact arithmetic, in microbatches that fit the
 * batch evenly, where a step takes rows by its memory limit; the peer's is the faster of what it has. The medians of all repetitions are compared. Nothing else may run on the machine: PyTorch's threads wait by
 * spinning, and beside other work it is several times slower.
 */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { disposeTree } from '../learning/compile/index.ts';
import { linearNames, type DecoderConfig } from '../learning/decoder/config.ts';
import { readModel } from '../learning/formats/model.ts';
import { tf, type Tensor } from '../learning/tensorflow.ts';
import { packageRoot } from '../stack/paths.ts';
import type { Bench, BenchCase, MeasureOptions } from './bench-case.ts';
import { loraOn, loraStepOperations, small, smolLm2, smolLm2Work, wide } from './learning/models.ts';
import { startPeer, type LearningPeer, type PeerRequest } from './learning/peer.ts';
import { samplingArm, type SamplingLayout, type SamplingWork } from './learning/sampling.ts';
import { madeUpWeights, plainArm, trainerArm, type LoraWork, type TrainingWork } from './learning/training.ts';
import { fastest, inTurns, localArm, type Arm, type Contest } from './learning/turns.ts';
import { madeUpLengths, wordCnnArm } from './learning/word-cnn.ts';

let shared: Promise<LearningPeer> | null = null;

async function closePeer(): Promise<void> {
  if (shared !== null) await (await shared).close();
  shared = null;
}

/** An arm of the peer's process. */
function peerArm(name: string, request: PeerRequest, say: (text: string) => void): Arm {
  return {
    name,
    run: async (steps) => {
      shared ??= startPeer(say);
      return (await (await shared).ask({ ...request, steps })).seconds;
    },
  };
}

const contestFor = ({ quick }: MeasureOptions, full: Contest): Contest => (quick ? { rounds: 1, steps: 1 } : full);

/** Opacus' ways to clip, and PyTorch without DP for comparison. */
function opacusArms({ config, tuned, batch, time }: TrainingWork, say: (text: string) => void): Record<string, Arm> {
  const { rank, alpha, targets } = tuned.kind === 'lora' ? tuned : { rank: 0, alpha: 0, targets: [] };
  const request = { arm: 'decoder', model: { ...config, rank, alpha, targets, time }, batch, physical: batch };
  const arm = (name: string, method: string): Arm => peerArm(name, { ...request, method }, say);
  return {
    hooks: arm('Opacus hooks', 'hooks'),
    ghost: arm('Opacus ghost clipping', 'ghost'),
    plain: arm('PyTorch without DP', 'plain'),
  };
}

/** Tokens a second of DP-LoRA, against the better of Opacus' two ways. */
async function loraAgainstOpacus(work: LoraWork, contest: Contest, options: MeasureOptions) {
  const { say } = options;
  const weights = madeUpWeights(work.config);
  const exact = trainerArm('ours', work, weights, 'exact', say);
  const float = trainerArm('ours in float arithmetic', work, weights, 'float', say);
  const { hooks, ghost, plain } = opacusArms(work, say) as Record<'hooks' | 'ghost' | 'plain', Arm>;
  try {
    const medians = await inTurns([exact, hooks, float, ghost, plain], contestFor(options, contest), say);
    const tokens = work.batch * work.time;
    return {
      ours: tokens / medians.get(exact.name)!,
      peer: tokens / fastest(medians, [hooks.name, ghost.name]),
    };
  } finally {
    exact.dispose();
    float.dispose();
    disposeTree(weights);
    await closePeer();
  }
}

/** Tokens a second of DP training of all weights, against the better of Opacus' two ways. */
async function fullAgainstOpacus(work: TrainingWork, contest: Contest, options: MeasureOptions) {
  const { say } = options;
  const weights = madeUpWeights(work.config);
  const ours = trainerArm('ours', work, weights, 'float', say);
  const { hooks, ghost, plain } = opacusArms(work, say) as Record<'hooks' | 'ghost' | 'plain', Arm>;
  try {
    const medians = await inTurns([ours, hooks, ghost, plain], contestFor(options, contest), say);
    const tokens = work.batch * work.time;
    return { ours: tokens / medians.get(ours.name)!, peer: tokens / fastest(medians, [hooks.name, ghost.name]) };
  } finally {
    ours.dispose();
    disposeTree(weights);
    await closePeer();
  }
}

/** Tokens a second with DP, against our own engine without: the trainer's, and one that knows nothing of examples. */
async function dpAgainstNone(work: LoraWork, contest: Contest, options: MeasureOptions) {
  const { say } = options;
  const weights = madeUpWeights(work.config);
  const exact = trainerArm('DP', work, weights, 'exact', say);
  const unbounded = trainerArm('without DP', work, weights, 'unbounded', say);
  const plain = plainArm('without DP, one gradient for all examples', work, weights);
  try {
    const medians = await inTurns([exact, unbounded, plain], contestFor(options, contest), say);
    const tokens = work.batch * work.time;
    return {
      ours: tokens / medians.get(exact.name)!,
      peer: tokens / fastest(medians, [unbounded.name, plain.name]),
    };
  } finally {
    exact.dispose();
    unbounded.dispose();
    plain.dispose();
    disposeTree(weights);
  }
}

/** The same for training of all weights, in float arithmetic; without DP, one gradient for all examples. */
async function fullDpAgainstNone(work: TrainingWork, contest: Contest, options: MeasureOptions) {
  const { say } = options;
  const weights = madeUpWeights(work.config);
  const arms = [
    trainerArm('DP', work, weights, 'float', say),
    trainerArm('without DP', work, weights, 'unbounded', say),
  ] as const;
  try {
    const medians = await inTurns(arms, contestFor(options, contest), say);
    const [ours, peer] = arms.map(({ name }) => (work.batch * work.time) / medians.get(name)!) as [number, number];
    return { ours, peer };
  } finally {
    arms.forEach((arm) => arm.dispose());
    disposeTree(weights);
  }
}

/** Texts a second of DP-SGD on the word-CNN, against the best of Opacus' ways; whole batches may be too large for one. */
async function wordCnn(batch: number, options: MeasureOptions) {
  const { say } = options;
  const model = { buckets: 20_000, embedding: 16, filters: 32, widths: [2, 3, 4], classes: 2 };
  const lengths = madeUpLengths(batch);
  const ours = wordCnnArm('ours', model, lengths);
  const peers = (['hooks', 'ghost'] as const).flatMap((method) =>
    [batch, batch / 8].map((physical) =>
      peerArm(`Opacus ${method} by ${physical}`, { arm: 'word-cnn', model, lengths, method, physical }, say),
    ),
  );
  try {
    const medians = await inTurns([ours, ...peers], contestFor(options, { rounds: 4, steps: 2 }), say);
    return {
      ours: batch / medians.get(ours.name)!,
      peer:
        batch /
        fastest(
          medians,
          peers.map(({ name }) => name),
        ),
    };
  } finally {
    await ours.dispose();
    await closePeer();
  }
}

/** Tokens a second of sampling. @param model its folder is null for random weights */
async function sampling(
  model: { config: DecoderConfig; weights: Record<string, Tensor>; folder: string | null },
  layout: SamplingLayout,
  options: MeasureOptions,
) {
  const work = texts;
  const ours = samplingArm('ours', model, work, layout);
  const request = { arm: 'sampling', model: model.config, folder: model.folder, ...work };
  const peer = peerArm('transformers generate', request, options.say);
  try {
    const medians = await inTurns([ours, peer], contestFor(options, { rounds: 5, steps: 1 }), options.say);
    const tokens = work.texts * work.tokens;
    return { ours: tokens / medians.get(ours.name)!, peer: tokens / medians.get(peer.name)! };
  } finally {
    ours.dispose();
    disposeTree(model.weights);
    await closePeer();
  }
}

/** GFLOP/s of a training step's matrix products, and of a large product alone. */
async function matmulShare(work: LoraWork, options: MeasureOptions) {
  const size = 2048;
  const weights = madeUpWeights(work.config);
  const step = trainerArm('step', work, weights, 'exact', options.say);
  const [left, right] = [tf.randomNormal([size, size]), tf.randomNormal([size, size])];
  const product = localArm('product', () => {
    const result = tf.matMul(left, right);
    result.dataSync();
    result.dispose();
  });
  try {
    const medians = await inTurns([step, product], contestFor(options, { rounds: 5, steps: 2 }), options.say);
    return {
      ours: loraStepOperations(work) / medians.get(step.name)! / 1e9,
      peer: (2 * size ** 3) / medians.get(product.name)! / 1e9,
    };
  } finally {
    step.dispose();
    disposeTree([weights, left, right]);
  }
}

/** MiB that processes of their own hold at most. */
async function peakMemory({ say }: MeasureOptions) {
  const file = join(packageRoot, 'bench', 'learning', 'memory-process.ts');
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file]);
  const ours = Number(stdout) / 2 ** 20;
  const { config, tuned, batch, time } = smolLm2Work;
  const model = { ...config, ...tuned, time };
  const peers: number[] = [];
  for (const method of ['hooks', 'ghost']) {
    const peer = await startPeer(say);
    const { peakBytes } = await peer.ask({ arm: 'decoder', method, model, batch, physical: batch, steps: 2 });
    await peer.close();
    say(`  Opacus ${method}: ${(peakBytes / 2 ** 20).toFixed(0)} MiB`);
    peers.push(peakBytes / 2 ** 20);
  }
  return { ours, peer: Math.min(...peers) };
}

const generate = 'transformers 4.57.6 generate, KV cache';
const texts: SamplingWork = { texts: 64, tokens: 64, first: 0 };
const opacus = 'Opacus 1.6.0, the better of hooks and ghost clipping';
const tokensASecond = { unit: 'tokens/s', better: 'more' } as const satisfies Partial<BenchCase>;
const smallWork = { config: small, batch: 32, time: 128, rows: 16 };
const all = { kind: 'full', classes: 0 } as const;

export const learning: Bench = {
  name: 'learning',
  cases: [
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-qv', peerName: opacus, goal: 1.6 },
      measure: (options) =>
        loraAgainstOpacus({ ...smallWork, tuned: loraOn(['q', 'v']) }, { rounds: 5, steps: 3 }, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-all', peerName: opacus, goal: 1.6 },
      measure: (options) =>
        loraAgainstOpacus({ ...smallWork, tuned: loraOn(linearNames(small)) }, { rounds: 5, steps: 3 }, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-width-768', peerName: opacus, goal: 1.2 },
      measure: (options) =>
        loraAgainstOpacus(
          { config: wide, batch: 8, time: 128, rows: 4, tuned: loraOn(['q', 'v']) },
          { rounds: 4, steps: 2 },
          options,
        ),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-smollm2-135m', peerName: opacus, goal: 1.2 },
      measure: (options) => loraAgainstOpacus(smolLm2Work, { rounds: 3, steps: 1 }, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-full', peerName: opacus, goal: 1.5 },
      measure: (options) => fullAgainstOpacus({ ...smallWork, tuned: all }, { rounds: 5, steps: 2 }, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-over-non-private-lora', peerName: 'this engine without DP', goal: 0.9 },
      measure: (options) =>
        dpAgainstNone(
          { ...smallWork, batch: options.quick ? 64 : 1024, tuned: loraOn(linearNames(small)) },
          { rounds: 3, steps: 1 },
          options,
        ),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-over-non-private-full', peerName: 'this engine without DP', goal: 0.9 },
      measure: (options) =>
        fullDpAgainstNone(
          { ...smallWork, tuned: all, batch: options.quick ? 64 : 1024 },
          { rounds: 3, steps: 1 },
          options,
        ),
    },
    {
      ...{ name: 'dp-word-cnn', unit: 'texts/s', better: 'more', peerName: opacus, goal: 1.5 },
      measure: (options) => wordCnn(1024, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'sampling-base', peerName: generate, goal: 3 },
      measure: async (options) => {
        const folder = join(packageRoot, 'models', 'base');
        // Small products do not keep two cores busy, so each has a call of its own.
        return sampling({ ...(await readModel(folder)), folder }, { calls: 2, block: 8 }, options);
      },
    },
    {
      ...tokensASecond,
      ...{ name: 'sampling-smollm2-135m', peerName: generate, goal: 1.5 },
      // One call reads the weights for all rows at once.
      measure: (options) =>
        sampling({ config: smolLm2, weights: madeUpWeights(smolLm2), folder: null }, { calls: 1, block: 4 }, options),
    },
    {
      ...{ name: 'matmul-share-smollm2-135m', unit: 'GFLOP/s', better: 'more' },
      ...{ peerName: 'a large matrix product by itself', goal: 0.5 },
      measure: (options) => matmulShare(smolLm2Work, options),
    },
    {
      ...{ name: 'peak-memory-smollm2-135m', unit: 'MiB', better: 'less', peerName: opacus, goal: 1 },
      measure: peakMemory,
    },
  ],
  close: closePeer,
};
