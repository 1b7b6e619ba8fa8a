/**
 * @file The learning engine against PyTorch with Opacus and transformers: training steps and sampling, in turns in one run.
 *
 * Both sides do the same work on the same architecture: forward, backward, clipping of each example, noise and Adam, in
 * float32 with all cores. Ours is what a step of an experiment runs, with exact arithmetic; the peer's is the faster of
 * what it has. The medians of all repetitions are compared.
 */

import { join } from 'node:path';

import type { AdapterShape } from '../learning/adapter/parameters.ts';
import { disposeTree } from '../learning/compile/index.ts';
import { linearNames, type DecoderConfig } from '../learning/decoder/config.ts';
import { readModelFolder } from '../learning/formats/model-folder.ts';
import { packageRoot } from '../stack/paths.ts';
import type { Bench, BenchCase, MeasureOptions } from './bench-case.ts';
import { madeUpWeights, plainArm, trainerArm, type LoraWork } from './learning/lora.ts';
import { LearningPeer, type PeerRequest } from './learning/peer.ts';
import { samplingArm, type SamplingWork } from './learning/sampling.ts';
import { fastest, inTurns, type Arm, type Contest } from './learning/turns.ts';
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
      shared ??= LearningPeer.start(say);
      return (await (await shared).ask({ ...request, steps })).seconds;
    },
  };
}

const contestFor = ({ quick }: MeasureOptions, full: Contest): Contest => (quick ? { rounds: 1, steps: 1 } : full);

const small: DecoderConfig = {
  ...{ dim: 128, layers: 4, heads: 4, kvHeads: 4, hidden: 352, vocab: 512, context: 128 },
  ...{ ropeTheta: 10000, rmsEps: 1e-5, tied: false },
};
const wide: DecoderConfig = { ...small, dim: 768, layers: 2, heads: 12, kvHeads: 12, hidden: 2048, vocab: 8192 };

const adapterOn = (targets: AdapterShape['targets']): AdapterShape => ({ rank: 8, alpha: 16, targets, classes: 0 });

/** Opacus' ways to clip, and PyTorch without DP for comparison. */
function opacusArms({ config, adapter, batch, time }: LoraWork, say: (text: string) => void): Record<string, Arm> {
  const { rank, alpha, targets } = adapter;
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
    await closePeer();
  }
}

/** Tokens a second of sampling from a model folder. */
async function sampling(folder: string, work: SamplingWork, options: MeasureOptions) {
  const model = await readModelFolder(folder);
  const ours = samplingArm('ours', model, work);
  const peer = peerArm('transformers generate', { arm: 'sampling', folder, ...work }, options.say);
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

const opacus = 'Opacus 1.6.0, the better of hooks and ghost clipping';
const tokensASecond = { unit: 'tokens/s', better: 'more' } as const satisfies Partial<BenchCase>;
const smallWork = { config: small, batch: 32, time: 128, rows: 32 };

export const learning: Bench = {
  name: 'learning',
  cases: [
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-qv', peerName: opacus, goal: 1.6 },
      measure: (options) =>
        loraAgainstOpacus({ ...smallWork, adapter: adapterOn(['q', 'v']) }, { rounds: 5, steps: 3 }, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-all', peerName: opacus, goal: 1.6 },
      measure: (options) =>
        loraAgainstOpacus({ ...smallWork, adapter: adapterOn(linearNames) }, { rounds: 5, steps: 3 }, options),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-lora-width-768', peerName: opacus, goal: 1.2 },
      measure: (options) =>
        loraAgainstOpacus(
          { config: wide, batch: 8, time: 128, rows: 8, adapter: adapterOn(['q', 'v']) },
          { rounds: 4, steps: 2 },
          options,
        ),
    },
    {
      ...tokensASecond,
      ...{ name: 'dp-over-non-private-lora', peerName: 'this engine without DP', goal: 0.9 },
      measure: (options) =>
        dpAgainstNone(
          { ...smallWork, batch: options.quick ? 64 : 1024, adapter: adapterOn(linearNames) },
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
      ...{ name: 'sampling-base', peerName: 'transformers 4.57.6 generate, KV cache', goal: 3 },
      measure: (options) => sampling(join(packageRoot, 'models', 'base'), { texts: 64, tokens: 64, first: 0 }, options),
    },
  ],
  close: closePeer,
};
