/**
 * @file `model FOLDER` makes a model of some 100 MiB. `step FOLDER` runs a finetune step that trains all its weights for
 * one step, two microbatches at once, in the least memory that allows that, and prints that memory and what the process
 * took at most, bytes.
 */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../activities/finetune.ts';
import type { JobInput } from '../../activities/job.ts';
import { readDigested, type DatasetSource } from '../../datasets/index.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { microbatchesAtOnce, microbatchShapes } from '../../learning/dp/memory.ts';
import { usualAdam } from '../../learning/dp/optimisers.ts';
import { modelDigest } from '../../learning/formats/model-digest.ts';
import { writeModelFolder } from '../../learning/formats/model-folder.ts';
import { trainBytePairs, writeTokenizer } from '../../learning/tokenizer/byte-pair-training.ts';
import { smallConfig, smallWeights } from './small-model.ts';

const mib = 2 ** 20;
const sequence = 8;
const config: DecoderConfig = { ...smallConfig, layers: 1, dim: 400, hidden: 16, vocab: 65_536, tied: true };

/** The least that holds two microbatches of two examples. */
function leastMemory(): number {
  const tuned = { kind: 'full', classes: 0 } as const;
  for (let memory = 1024 * mib; ; memory += mib) {
    try {
      const layout = microbatchShapes(config, tuned, { sequence, memory });
      const atOnce = microbatchesAtOnce(config, tuned, layout, { memory, most: 2 });
      if (atOnce === 2 && layout.every(({ rows }) => rows >= 2)) return memory;
    } catch {
      // Not even one example.
    }
  }
}

const [what, root] = process.argv.slice(2) as ['model' | 'step', string];
const [base, outputDirectory, checkpointDirectory] = ['base', 'output', 'checkpoints'].map((name) =>
  join(root, name),
) as [string, string, string];
const path = join(root, 'train.jsonl');
const noiseKeyFile = join(root, 'noise.key');

async function makeModelAndData(): Promise<void> {
  for (const folder of [base, outputDirectory, checkpointDirectory]) await mkdir(folder);
  const texts = Array.from({ length: 12 }, (_, index) => `${index} ships at sea, and ${index} more on land`);
  await writeTokenizer(base, trainBytePairs(texts, 300));
  await writeModelFolder(base, config, smallWeights(config), { bosTokenId: 0, eosTokenId: 0 });
  await writeFile(path, texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));
  await writeFile(noiseKeyFile, Buffer.alloc(32, 9), { mode: 0o600 });
}

async function runStep(): Promise<void> {
  const source: DatasetSource = {
    name: 'ships',
    files: { train: { path, format: 'jsonl', compression: 'none' } },
    ...{ text: 'text', label: null, sensitivity: 'benchmark' },
  };
  const mechanism = {
    ...{ kind: 'poisson-gaussian', samplingProbability: 1, noiseMultiplier: 1, steps: 1, clipNorm: 1 },
    ...{ expectedBatchSize: 12, arithmetic: 'float' },
  };
  const memory = leastMemory();
  const input = {
    node: {
      id: 'generator',
      key: 'k',
      params: {
        method: { kind: 'full', lr: 1e-4 },
        ...{ objective: 'prefix-lm', lossDivisor: 'tokens', optimizer: usualAdam, conditioning: 'prefix', epsilon: 8 },
        ...{ steps: 1, batch: 12, clip: 1, warmup: 0, decay: 'constant', finalLr: 1, sequence, seed: 1 },
        memory: `${memory / mib}MiB`,
        checkpoint: { steps: 10, seconds: 60 },
      },
      inputs: { data: { dataset: 'ships' }, model: { model: 'base' } },
      privacy: { mechanism, digest: 'digest' },
    },
    datasets: {
      ships: {
        ...source,
        privacy: { unit: 'record', size: 12, counted: false, delta: 1e-3, budget: null },
        digest: (await readDigested(source, null)).digest,
      },
    },
    models: { base: { name: 'base', path: base, digest: await modelDigest(base) } },
    artifacts: {},
    ...{ outputDirectory, checkpointDirectory, noiseKeyFile, datasetSecret: null },
  } as unknown as JobInput<'finetune'>;
  await run(input, {
    progress: () => undefined,
    metric: () => undefined,
    breathe: () => Promise.resolve(),
    stopping: false,
    announceStep: () => Promise.resolve(),
    checkFence: () => Promise.resolve(),
  });
  const status = await readFile('/proc/self/status', 'utf8');
  const peak = 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]);
  process.stdout.write(JSON.stringify({ memory, peak }));
}

await (what === 'model' ? makeModelAndData() : runStep());
