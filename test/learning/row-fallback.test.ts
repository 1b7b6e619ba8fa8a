import { expect, it, vi } from 'vitest';
import { initialValues, trainedParameters } from '../../learning/tuning/parameters.ts';
import { usualAdam, zeroState } from '../../learning/dp/optimisers.ts';
import { rowsAreIndependent } from '../../learning/dp/row-independence.ts';
import { encodeRecord } from '../../learning/dp/sequences.ts';
import { Trainer, type TrainerSettings } from '../../learning/dp/trainer.ts';
import type { TrainingState } from '../../learning/dp/checkpoint.ts';
import { seededStream } from '../../privacy/noise.ts';
import { smallAdapter, smallConfig, smallWeights } from './small-model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });
vi.mock(import('../../learning/dp/row-independence.ts'), () => ({ rowsAreIndependent: vi.fn(() => true) }));

const config = { ...smallConfig, layers: 1 };
const parameters = trainedParameters(config, smallAdapter);
const settings: TrainerSettings = {
  config,
  tuned: smallAdapter,
  optimizer: usualAdam,
  base: null,
  schedule: { lr: 5e-3, warmup: 1, decay: 'linear', finalLr: 0.1, steps: 1 },
  mechanism: {
    // All records, and noise that rounds to 0: what is left of a step is its sum.
    ...{ kind: 'poisson-gaussian', samplingProbability: 1, noiseMultiplier: 1e-9, steps: 1, clipNorm: 0.5 },
    ...{ expectedBatchSize: 6, arithmetic: 'exact' },
  },
  unboundedBatch: { samplingProbability: 0.5, expectedBatchSize: 6, seed: 1 },
  secret: { key: Buffer.alloc(32, 3), nodeKey: 'a' },
  layout: [{ rows: 4, time: 8 }],
  atOnce: 2,
  padId: 1,
  machine: 'this one',
};
const records = Array.from({ length: 12 }, (_, index) => {
  const text = Int32Array.from({ length: 1 + (index % 7) }, (__, at) => 2 + ((index * 5 + at * 3) % 38));
  return encodeRecord({ bosId: 1, eosId: 1, prefix: new Int32Array(0), text, label: index % 2 }, 8);
});

async function oneStep(): Promise<{ state: TrainingState; compiled: number[]; digest: string }> {
  const weights = smallWeights(config);
  const trainer = new Trainer(settings, weights, records);
  const stream = seededStream(9, 'test initial');
  const values = initialValues(parameters, {}, () => stream.uniform());
  const state = { step: 0, values, ...zeroState(values) };
  const compiled: number[] = [];
  let digest = '';
  await trainer.train(state, {
    beforeStep: async (_, stated) => void (digest = stated.toString('hex')),
    between: () => Promise.resolve(),
    afterStep: () => Promise.resolve(),
    compiling: async ({ rows }) => void compiled.push(rows),
  });
  trainer.dispose();
  return { state, compiled, digest };
}

it('trains in single rows where rows of a microbatch are not alike, with the same sums to rounding and noise of its own', async () => {
  const usual = await oneStep();
  expect(usual.compiled).toEqual([4]);
  vi.mocked(rowsAreIndependent).mockReturnValue(false);
  const single = await oneStep();
  expect(single.compiled).toEqual([4, 1]);
  expect(single.digest).not.toBe(usual.digest);
  for (const { name } of parameters) {
    const other = usual.state.first[name]!;
    single.state.first[name]!.forEach((value, index) => expect(Math.abs(value - other[index]!)).toBeLessThan(1e-7));
  }
});

it('refuses microbatches whose sums could overflow 32 bits', () => {
  expect(() => new Trainer({ ...settings, layout: [{ rows: 4096, time: 8 }] }, {}, records)).toThrow(/32 bits/);
});
