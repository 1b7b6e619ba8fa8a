import { cp, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import { run as audit } from '../../activities/audit.ts';
import { drawCanaries } from '../../activities/audit-canaries.ts';
import { run as finetune } from '../../activities/finetune.ts';
import type { JobContext, JobInput } from '../../activities/job.ts';
import { readDigested } from '../../datasets/index.ts';
import { modelDigest } from '../../learning/formats/model-digest.ts';
import { usualAdam } from '../../learning/dp/optimisers.ts';
import { openTinyWorld, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import type { AuditFindings } from '../../schemas/audit.ts';
import type { PlanDataset, PlanNode, PoissonGaussianMechanism, Sensitivity } from '../../schemas/plan.ts';
import type { AuditParams, FinetuneParams, GenerateParams } from '../../schemas/step-params.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** Whether the trained model tells which of the single canaries it has seen. */
const broken = vi.hoisted(() => ({ tells: false }));
vi.mock(import('../../learning/tuning/record-losses.ts'), async (original) => {
  const real = await original();
  class RecordLosses extends real.RecordLosses {
    readonly #isTrained: boolean;
    constructor(...given: ConstructorParameters<typeof real.RecordLosses>) {
      super(...given);
      this.#isTrained = given[0].trained !== null;
    }
    override async of(...given: Parameters<InstanceType<typeof real.RecordLosses>['of']>): Promise<Float64Array> {
      const nats = await super.of(...given);
      const { single, included } = drawCanaries(auditing, 2);
      if (!broken.tells || !this.#isTrained || nats.length !== single.length) return nats;
      return nats.map((each, canary) => each - 100 * included[canary]!);
    }
  }
  return { ...real, RecordLosses };
});

/** Declared size, and rows that there are. */
const size = 40;

const training: FinetuneParams = {
  method: { kind: 'lora', rank: 2, alpha: 4, targets: ['q', 'v'], lr: 1e-2 },
  objective: 'prefix-lm',
  lossDivisor: 'tokens',
  optimizer: usualAdam,
  conditioning: 'class-bias',
  epsilon: 1,
  ...{ steps: 3, batch: size, clip: 0.5, warmup: 1, decay: 'linear', finalLr: 0.1 },
  ...{ sequence: 24, memory: '4GiB', checkpoint: { steps: 10, seconds: 60 }, seed: 1 },
};
const generation: GenerateParams = {
  ...{ count: 20, temperature: 1, topP: 1, repetitionPenalty: 1, banned: [], maxTokens: 8, seed: 1 },
};
const auditing: AuditParams = {
  ...{ canaries: 64, repetitions: [2], repeated: 2, candidates: 31, samples: 10, rows: 30, seed: 1 },
  ...{ training, generation },
};
/** All records in every step: epsilon 0.5 or so at delta 1e-10. */
const mechanism: PoissonGaussianMechanism = {
  ...{ kind: 'poisson-gaussian', samplingProbability: 1, noiseMultiplier: 20, steps: training.steps },
  ...{ clipNorm: training.clip, expectedBatchSize: size, arithmetic: 'exact' },
};

const context: JobContext = {
  stopping: false,
  progress: () => undefined,
  metric: () => undefined,
  breathe: () => Promise.resolve(),
  announceStep: () => Promise.resolve(),
  checkFence: () => Promise.resolve(),
};

let world: TinyWorld;
let datasets: Record<string, PlanDataset>;
let [generatorFolder, syntheticFolder] = ['', ''];
beforeAll(async () => {
  world = await openTinyWorld({ train: size, withModel: true });
  await writeFile(join(world.folder, 'noise.key'), Buffer.alloc(32, 9), { mode: 0o600 });
  const file = (name: string) => ({
    path: join(world.folder, name),
    format: 'jsonl' as const,
    compression: 'none' as const,
  });
  const planned = async (name: string, sensitivity: Sensitivity): Promise<[string, PlanDataset]> => {
    const source = {
      ...{ name, files: { train: file('train.jsonl'), test: file('test.jsonl') }, text: 'text', sensitivity },
      label: { column: 'label', values: ['cold', 'warm'] },
    };
    const privacy = { unit: 'record' as const, size, counted: false, delta: 1e-3, budget: null };
    return [name, { ...source, privacy, digest: (await readDigested(source, Buffer.alloc(32, 1))).digest }];
  };
  datasets = Object.fromEntries([await planned('weather', 'benchmark'), await planned('secret', 'private')]);
  generatorFolder = (await step(finetune, 'finetune', { ...training, steps: 2 }, {})).directory;
  syntheticFolder = await mkdtemp(join(world.folder, 'copied-'));
  await cp(join(world.folder, 'train.jsonl'), join(syntheticFolder, 'synthetic.jsonl'));
  await writeFile(join(syntheticFolder, 'labels.json'), JSON.stringify(['cold', 'warm']));
});
afterAll(() => world.remove());
beforeEach(() => void (broken.tells = false));

const privacyOf = (given: PoissonGaussianMechanism): PlanNode['privacy'] => ({
  ...{ dataset: 'weather', targetEpsilon: 1, epsilon: 0.5, delta: 1e-3, accountant: 'pld', digest: 'd' },
  mechanism: given,
});

/** Runs the code of a step on folders of its own. */
async function step<K extends 'finetune' | 'audit'>(
  run: (input: JobInput<K>, context: JobContext) => Promise<{ metrics: Record<string, number> }>,
  kind: K,
  params: PlanNode<K>['params'],
  artifacts: Record<string, string>,
  { data = 'weather', waivers = [] as string[] } = {},
): Promise<{ directory: string; metrics: Record<string, number> }> {
  const folder = await mkdtemp(join(world.folder, 'step-'));
  const [outputDirectory, checkpointDirectory] = [join(folder, 'output'), join(folder, 'checkpoints')];
  for (const each of [outputDirectory, checkpointDirectory]) await mkdir(each);
  const { steps = 0 } = 'training' in params ? params.training : (params as Partial<FinetuneParams>);
  const node = {
    ...{ id: kind, kind, key: kind, params, waivers, privacy: privacyOf({ ...mechanism, steps }) },
    inputs: { data: { dataset: data }, model: { model: 'base' } },
  };
  const base = join(world.folder, 'base');
  const { metrics } = await run(
    {
      ...{ node: node as unknown as PlanNode<K>, datasets, outputDirectory, checkpointDirectory },
      models: { base: { name: 'base', path: base, digest: await modelDigest(base) } },
      artifacts: Object.fromEntries(
        Object.entries(artifacts).map(([role, directory]) => [
          role,
          [{ nodeId: role, key: role, directory, manifest: {} as never }],
        ]),
      ),
      noiseKeyFile: join(world.folder, 'noise.key'),
      datasetSecret: Buffer.alloc(32, 1).toString('hex'),
    },
    context,
  );
  return { directory: outputDirectory, metrics };
}

const audited = (params: AuditParams, options?: { data?: string; waivers?: string[] }) =>
  step(audit, 'audit', params, { generator: generatorFolder, synthetic: syntheticFolder }, options);

describe('an audit step', () => {
  it('bounds epsilon, ranks canaries and tells training from test records', async () => {
    const { directory, metrics } = await audited(auditing);
    const found = JSON.parse(await readFile(join(directory, 'audit.json'), 'utf8')) as AuditFindings;
    expect(found.claim!.epsilonOfBound).toBeGreaterThan(0.3);
    expect(found.bound).toMatchObject({ canaries: 64, delta: 1e-10, failure: 1e-6 });
    expect(found.bound.epsilon).toBeLessThanOrEqual(found.claim!.epsilonOfBound);
    expect(found.bound.most).toBeGreaterThan(1);
    expect(found.repeated).toMatchObject([{ repetitions: 2, leaked: { value: 0 } }]);
    for (const exposure of found.repeated[0]!.exposures) {
      expect(exposure).toBeGreaterThanOrEqual(0);
      expect(exposure).toBeLessThanOrEqual(5);
    }
    // The synthetic set is the training set itself.
    expect(found.longestRun.train).toBe(6);
    expect(found.longestRun.test).toBeLessThan(6);
    expect(found.membership.synthetic.area.value).toBeGreaterThan(0.6);
    expect(found).toMatchObject({ mostExposure: 5, samples: 10, rows: 30 });
    for (const { area, rates } of Object.values(found.membership)) {
      expect(area.low).toBeLessThanOrEqual(area.value);
      expect(rates.map(({ falseAlarms }) => falseAlarms)).toEqual([0.01, 0.001]);
    }
    expect(metrics).toMatchObject({
      steps: 3,
      epsilonBound: found.bound.epsilon,
      exposure2: expect.any(Number) as number,
    });
  });

  it('fails loudly when the model tells more of its canaries than training claims', async () => {
    broken.tells = true;
    await expect(audited(auditing)).rejects.toMatchObject({
      code: 'AUDIT_EXCEEDED',
      message: expect.stringMatching(/epsilon \d\.\d+ at least, and claims 0\.\d+, both at delta 1e-10/) as string,
    });
  });

  it('refuses private records without a waiver', async () => {
    await expect(audited(auditing, { data: 'secret' })).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
  });
});
