/**
 * @file What is written for Python, read by Python: fine-tuned adapters by PEFT, whole models by transformers. Both sides
 * compute the logits of the same tokens; a case holds when they differ by no more than 1e-4.
 */

import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { adapted } from '../learning/tuning/apply.ts';
import { writeGenerator, type GeneratorDescription } from '../learning/tuning/files.ts';
import { sizeOf, trainedParameters, type AdapterShape, type TunedShape } from '../learning/tuning/parameters.ts';
import { disposeTree } from '../learning/compile/index.ts';
import { linearNames, type DecoderConfig, type Gpt2Config, type LlamaConfig } from '../learning/decoder/config.ts';
import { forward } from '../learning/decoder/forward.ts';
import { initialWeights, type Weights } from '../learning/decoder/weights.ts';
import { writeModelFolder } from '../learning/formats/model-folder.ts';
import { tf, type Tensor } from '../learning/tensorflow.ts';
import { seededStream } from '../privacy/noise.ts';
import type { Bench, BenchCase, MeasureOptions } from './bench-case.ts';
import { learningEnvironment } from './learning/peer.ts';
import { PeerProcess } from './peer-process.ts';

const shape = { dim: 32, layers: 2, heads: 4, kvHeads: 2, hidden: 48, vocab: 64, context: 96 };

const llama: LlamaConfig = { family: 'llama', ...shape, ropeTheta: 10_000, rmsEps: 1e-5, tied: true };
const qwen2: LlamaConfig = { ...llama, biases: ['q', 'k', 'v'], tied: false };
const wideHeads: LlamaConfig = {
  ...llama,
  headDim: 12,
  ropeScaling: { kind: 'llama3', factor: 8, lowFrequency: 1, highFrequency: 4, originalContext: 24 },
};
const gpt2: Gpt2Config = {
  family: 'gpt2',
  ...shape,
  kvHeads: shape.heads,
  normEps: 1e-5,
  activation: 'gelu-tanh',
  tied: true,
};

const [rows, time] = [3, 24];
const allowed = 1e-4;
const tokens = { bosTokenId: 0, eosTokenId: 0 };

interface Answer {
  logits: number[];
}

let shared: Promise<PeerProcess<Answer>> | null = null;

const startPeer = (say: (text: string) => void): Promise<PeerProcess<Answer>> =>
  (shared ??= PeerProcess.start<Answer>({ ...learningEnvironment, script: 'formats-peer.py' }, say));

async function closePeer(): Promise<void> {
  if (shared !== null) await (await shared).close();
  shared = null;
}

/** Values that are zero nowhere, biases among them. */
function randomValues(size: number, name: string): Float32Array {
  const values = new Float32Array(size);
  seededStream(7, `values of ${name}`).fillGaussian(values, 0.2);
  return values;
}

function randomWeights(config: DecoderConfig, seed: number): Record<string, Tensor> {
  const stream = seededStream(seed, 'weights of a bench of formats');
  const initial = initialWeights(config, (out) => stream.fillGaussian(out, 0.2));
  const weights = Object.entries(initial).map(([name, tensor]): [string, Tensor] => {
    const added = tensor.rank === 1 ? tensor.add(tf.tensor1d(randomValues(tensor.size, name))) : tensor.clone();
    tensor.dispose();
    return [name, added as Tensor];
  });
  return Object.fromEntries(weights);
}

function logitsOf(
  config: DecoderConfig,
  weights: Weights,
  ids: number[][],
  adapter: AdapterShape | null,
  own: Weights,
) {
  return tf.tidy(() => {
    const options = adapter === null ? {} : adapted(adapter, own, tf.zeros([rows], 'int32'));
    return forward(config, weights, tf.tensor2d(ids, [rows, time], 'int32'), options).dataSync();
  });
}

/** Largest difference between both sides' logits. */
async function difference(config: DecoderConfig, tuned: TunedShape, { say }: MeasureOptions): Promise<number> {
  const peer = await startPeer(say);
  const folder = await mkdtemp(join(tmpdir(), 'formats-'));
  const [base, own] = [join(folder, 'base'), join(folder, 'own')];
  const weights = randomWeights(config, 1);
  const parameters = trainedParameters(config, tuned);
  const trained =
    tuned.kind === 'full'
      ? randomWeights(config, 2)
      : Object.fromEntries(
          parameters.map(({ name, shape: sizes }) => [
            name,
            tf.tensor(randomValues(sizeOf({ shape: sizes }), name), sizes),
          ]),
        );
  try {
    await Promise.all([base, own].map((path) => mkdir(path)));
    await writeModelFolder(base, config, weights, tokens);
    const values = Object.fromEntries(
      Object.entries(trained).map(([name, tensor]) => [name, tensor.dataSync() as Float32Array]),
    );
    const description: GeneratorDescription = {
      method: tuned.kind,
      ...{ dataset: 'made-up', labels: [], conditioning: 'prefix', sequence: time },
      base: { name: 'base', digest: '' },
    };
    await writeGenerator(own, config, { tuned, description, values }, tokens);
    const ids = Array.from({ length: rows }, (_, row) =>
      Array.from({ length: time }, (_unused, at) => (7 * row + 5 * at + row * at) % config.vocab),
    );
    const ours =
      tuned.kind === 'full' ? logitsOf(config, trained, ids, null, {}) : logitsOf(config, weights, ids, tuned, trained);
    const request = tuned.kind === 'full' ? { model: own, adapter: null } : { model: base, adapter: own };
    const { logits } = await peer.ask({ ...request, ids });
    if (logits.length !== ours.length) throw new Error(`The peer has ${logits.length} logits, not ${ours.length}.`);
    return logits.reduce((largest, value, at) => Math.max(largest, Math.abs(value - ours[at]!)), 0);
  } finally {
    disposeTree([weights, trained]);
    await rm(folder, { recursive: true });
  }
}

const formatCase = (name: string, config: DecoderConfig, tuned: TunedShape): BenchCase => ({
  name,
  unit: 'largest difference of logits',
  better: 'less',
  peerName: 'what may differ from transformers 4.57.6 and peft 0.18.1',
  goal: 1,
  measure: async (options) => ({ ours: await difference(config, tuned, options), peer: allowed }),
});

const lora = (config: DecoderConfig): TunedShape => ({
  kind: 'lora',
  ...{ rank: 3, alpha: 6, classes: 0 },
  targets: linearNames(config),
});
const prompt: TunedShape = { kind: 'prompt', length: 5, classes: 0 };
const full: TunedShape = { kind: 'full', classes: 0 };

export const formats: Bench = {
  name: 'formats',
  cases: [
    formatCase('lora-llama', llama, lora(llama)),
    formatCase('lora-qwen2', qwen2, lora(qwen2)),
    formatCase('lora-gpt2', gpt2, lora(gpt2)),
    formatCase('prompt-llama', llama, prompt),
    formatCase('prompt-gpt2', gpt2, prompt),
    formatCase('full-llama', wideHeads, full),
    formatCase('full-qwen2', qwen2, full),
    formatCase('full-gpt2', gpt2, full),
  ],
  close: closePeer,
};
