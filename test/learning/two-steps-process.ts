/**
 * @file Trains for two steps on records of the second length only, and prints how many programs the cache holds when the
 * first step begins, and at the end, and a digest of the state that is reached. Argument: what is trained. Matrices are
 * large enough for their products to be spread over threads.
 */

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const cache = mkdtempSync(join(tmpdir(), 'xla-'));
process.env['EPSILONFLOW_XLA_CACHE'] = cache;
const { usualAdam, zeroState } = await import('../../learning/dp/optimisers.ts');
const { stepDigest } = await import('../../learning/dp/outer-loop.ts');
const { encodeRecord } = await import('../../learning/dp/sequences.ts');
const { Trainer } = await import('../../learning/dp/trainer.ts');
const { initialValues } = await import('../../learning/tuning/parameters.ts');
const { smallAdapter, smallConfig, smallWeights } = await import('./small-model.ts');

const kind = process.argv[2];
const config = { ...smallConfig, layers: 1, dim: 128, hidden: 256, vocab: 512 };
const weights = smallWeights(config);
const text = (first: number): Int32Array => Int32Array.from({ length: 12 }, (_, at) => 2 + ((first + at) % 38));
const records = Array.from({ length: 10 }, (_, index) =>
  encodeRecord({ bosId: 1, eosId: 1, prefix: new Int32Array(0), text: text(index), label: 0 }, 16),
);
const trainer = new Trainer(
  {
    config,
    tuned: kind === 'full' ? { kind, classes: 2 } : smallAdapter,
    optimizer: usualAdam,
    schedule: { lr: 1e-3, warmup: 0, decay: 'constant', finalLr: 1, steps: 2 },
    mechanism: {
      ...{ kind: 'poisson-gaussian', samplingProbability: 1, noiseMultiplier: 1, steps: 2, clipNorm: 1 },
      ...{ expectedBatchSize: 10, arithmetic: kind === 'full' ? 'float' : 'exact' },
    },
    unboundedBatch: { samplingProbability: 1, expectedBatchSize: 10, seed: 1 },
    secret: { key: Buffer.alloc(32, 1), nodeKey: 'a' },
    layout: [8, 16].map((time) => ({ rows: 4, time })),
    // Ten records are two calls at once, and one.
    atOnce: 2,
    padId: 1,
    machine: 'this one',
    base: null,
  },
  weights,
  records,
);
const given = Object.fromEntries(
  Object.entries(weights).map(([name, tensor]) => [name, tensor.dataSync() as Float32Array]),
);
const values = initialValues(trainer.parameters, given, () => 0.3);
const programs: number[] = [];
const count = (): void => void programs.push(readdirSync(cache).length);
const state = { step: 0, values, ...zeroState(values) };
await trainer.train(state, {
  beforeStep: async (step) => (step === 0 ? count() : undefined),
  between: () => Promise.resolve(),
  afterStep: async (step) => (step === 1 ? count() : undefined),
  compiling: () => Promise.resolve(),
});
const reached = stepDigest({ parameters: trainer.parameters, computation: '' }, state).toString('hex');
trainer.dispose();
rmSync(cache, { recursive: true });
process.stdout.write(JSON.stringify({ programs, reached }));
