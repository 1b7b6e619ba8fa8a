import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { run } from '../../activities/finetune.ts';
import { JobCancelled, type JobContext, type JobInput } from '../../activities/job.ts';
import { readDigested } from '../../datasets/index.ts';
import { readGenerator } from '../../learning/tuning/files.ts';
import { disposeTree } from '../../learning/compile/index.ts';
import type { DecoderConfig, LinearName } from '../../learning/decoder/config.ts';
import { usualAdam } from '../../learning/dp/optimisers.ts';
import { writeModelFolder } from '../../learning/formats/model-folder.ts';
import { modelDigest } from '../../learning/formats/model-digest.ts';
import { copyTokenizer, readModel, readTokenizer } from '../../learning/formats/model.ts';
import { trainBytePairs, writeTokenizer } from '../../learning/tokenizer/byte-pair-training.ts';
import type { PlanDataset, PoissonGaussianMechanism } from '../../schemas/plan.ts';
import type { FinetuneParams } from '../../schemas/step-params.ts';
import { requires } from '../requires.ts';
import { sharedData } from '../shared-data.ts';
import { smallGpt2, smallWeights } from './small-model.ts';

// Each run compiles its programs: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const texts = Array.from({ length: 60 }, (_, index) =>
  index % 2 === 0 ? `the tariff of ${index} ships` : `our jobs and ${index} roads for all of us`,
);
const mechanism: PoissonGaussianMechanism = {
  kind: 'poisson-gaussian',
  samplingProbability: 0.2,
  noiseMultiplier: 0.7,
  steps: 14,
  clipNorm: 0.5,
  expectedBatchSize: 12,
  arithmetic: 'exact',
};

let root: string;
let config: DecoderConfig;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'finetune-'));
  const base = join(root, 'base');
  await mkdir(base);
  const vocabulary = trainBytePairs(texts, 300);
  await writeTokenizer(base, vocabulary);
  config = {
    ...{
      family: 'llama',
      dim: 16,
      layers: 1,
      heads: 2,
      kvHeads: 1,
      hidden: 16,
      context: 16,
      ropeTheta: 10_000,
      rmsEps: 1e-5,
      tied: true,
    },
    vocab: vocabulary.tokens.length,
  };
  const weights = smallWeights(config);
  await writeModelFolder(base, config, weights, { bosTokenId: 0, eosTokenId: 0 });
  disposeTree(weights);
  const rows = texts.map((text, index) => JSON.stringify({ text, label: index % 2 === 0 ? 'old' : 'new' }));
  await writeFile(join(root, 'train.jsonl'), `${rows.join('\n')}\n`);
  await writeFile(join(root, 'noise.key'), Buffer.alloc(32, 9), { mode: 0o600 });
});

/** Keys the digest of private data. */
const datasetSecret = Buffer.alloc(32, 5);

interface Variant {
  params?: Partial<FinetuneParams>;
  sensitivity?: PlanDataset['sensitivity'];
  mechanism?: PoissonGaussianMechanism | { kind: 'unbounded' };
  /** Path of the base model. */
  base?: string;
}

/** A job on folders of its own. */
async function job({
  params,
  sensitivity = 'benchmark',
  mechanism: given = mechanism,
  base = join(root, 'base'),
}: Variant = {}): Promise<JobInput<'finetune'>> {
  const folder = await mkdtemp(join(root, 'job-'));
  const [outputDirectory, checkpointDirectory] = [join(folder, 'output'), join(folder, 'checkpoints')];
  await mkdir(outputDirectory);
  await mkdir(checkpointDirectory);
  const source = {
    name: 'speech',
    files: { train: { path: join(root, 'train.jsonl'), format: 'jsonl' as const, compression: 'none' as const } },
    text: 'text',
    label: { column: 'label', values: ['old', 'new'] },
    sensitivity,
  };
  const dataset: PlanDataset = {
    ...source,
    privacy: { unit: 'record', size: 60, counted: false, delta: 1e-3, budget: null },
    digest: (await readDigested(source, datasetSecret)).digest,
  };
  return {
    node: {
      ...{
        id: 'generator[epsilon=8]',
        slug: 'generator-8',
        step: 'generator',
        kind: 'finetune',
        kindVersion: 1,
        key: 'k',
      },
      axes: { epsilon: 8 },
      params: {
        method: { kind: 'lora', rank: 2, alpha: 4, targets: ['q', 'v', 'down'], lr: 5e-3 },
        objective: 'prefix-lm',
        lossDivisor: 'tokens',
        optimizer: usualAdam,
        conditioning: 'class-bias',
        epsilon: given.kind === 'unbounded' ? 'inf' : 8,
        ...{
          steps: 14,
          batch: 12,
          clip: 0.5,
          warmup: 3,
          decay: 'linear',
          finalLr: 0.1,
          sequence: 8,
          memory: '4GiB',
          checkpoint: { steps: 10, seconds: 60 },
          seed: 1,
        },
        ...params,
      },
      inputs: { data: { dataset: 'speech' }, model: { model: 'base' } },
      ...{ needs: [], label: 'dp', sensitivity, waivers: [], cached: null },
      position: { file: 'spec.yaml', line: 1, column: 1 },
      privacy: {
        dataset: 'speech',
        targetEpsilon: 8,
        epsilon: 7.9,
        delta: 1e-3,
        accountant: 'rdp',
        mechanism: given,
        digest: `digest of ${JSON.stringify(given)}`,
      },
    },
    datasets: { speech: dataset },
    models: { base: { name: 'base', path: base, digest: await modelDigest(base) } },
    artifacts: {},
    outputDirectory,
    checkpointDirectory,
    noiseKeyFile: join(root, 'noise.key'),
    datasetSecret: datasetSecret.toString('hex'),
  };
}

interface Observed extends JobContext {
  announced: number[];
  losses: [number, number][];
  phases: Set<string>;
  stopping: boolean;
}

/** A context that keeps what it hears. @param stopAt asks to stop when this step is announced */
function context(stopAt = Infinity): Observed {
  const observed: Observed = {
    announced: [],
    losses: [],
    phases: new Set(),
    stopping: false,
    progress: ({ phase }) => void observed.phases.add(phase),
    metric: (name, value, step) => {
      expect(name).toBe('trainLoss');
      observed.losses.push([step, value]);
    },
    breathe: () => (observed.stopping ? Promise.reject(new JobCancelled()) : Promise.resolve()),
    announceStep: (step) => {
      observed.announced.push(step);
      if (step === stopAt) observed.stopping = true;
      return Promise.resolve();
    },
    checkFence: () => Promise.resolve(),
  };
  return observed;
}

const digestOf = async (directory: string): Promise<string> => {
  const hash = createHash('sha256');
  for (const name of (await readdir(directory)).sort()) hash.update(name).update(await readFile(join(directory, name)));
  return hash.digest('hex');
};

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);

describe('the finetune step', () => {
  it('refuses a base model that is not the one of the plan', async () => {
    const asked = await job();
    const base = asked.models['base']!;
    const changed = { ...asked, models: { base: { ...base, digest: 'f'.repeat(64) } } };
    const observed = context();
    await expect(run(changed, observed)).rejects.toMatchObject({ code: 'MODEL_INVALID' });
    expect(observed.announced).toEqual([]);
  });

  it('goes on from its last checkpoint after a stop or a crash, to the same bytes', async () => {
    const whole = await job();
    const output = await run(whole, context());
    expect(output.proof).toEqual({
      samplingProbability: 0.2,
      noiseMultiplier: 0.7,
      expectedBatchSize: 12,
      arithmetic: 'exact',
      clipNorm: 0.5,
      steps: 14,
      sampler: 'poisson',
    });

    const asked = await job();
    const first = context(5);
    await expect(run(asked, first)).rejects.toBeInstanceOf(JobCancelled);
    const second = context();
    await run(asked, second);
    expect(first.announced).toEqual(range(0, 6));
    expect(second.announced).toEqual(range(5, 14));

    const crashed = await job();
    const dying = context();
    dying.announceStep = (step) => (step === 12 ? Promise.reject(new Error('killed')) : Promise.resolve());
    await expect(run(crashed, dying)).rejects.toThrow('killed');
    const after = context();
    await run(crashed, after);
    expect(after.announced).toEqual(range(10, 14));

    const expected = await digestOf(whole.outputDirectory);
    expect(await digestOf(asked.outputDirectory)).toBe(expected);
    expect(await digestOf(crashed.outputDirectory)).toBe(expected);
    expect((await readdir(whole.outputDirectory)).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'conditioning.safetensors',
      'epsilonflow.json',
    ]);
    const { tuned, description, values } = await readGenerator(whole.outputDirectory, config);
    expect(tuned).toEqual({ kind: 'lora', rank: 2, alpha: 4, targets: ['q', 'v', 'down'], classes: 2 });
    expect(description).toMatchObject({
      dataset: 'speech',
      labels: ['old', 'new'],
      conditioning: 'class-bias',
      sequence: 8,
    });
    expect(values['base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight']).toHaveLength(32);
  });

  it.each([
    ['so many steps', { steps: 4, seconds: 60 }, 8],
    ['so much time', { steps: 100, seconds: 1e-6 }, 11],
  ])('writes a checkpoint after %s', async (_, checkpoint, reached) => {
    const asked = await job({ params: { checkpoint } });
    const killedAt = (step: number): Observed => {
      const dying = context();
      const { announceStep } = dying;
      dying.announceStep = async (announced, ...rest) => {
        await announceStep(announced, ...rest);
        if (announced === step) throw new Error('killed');
      };
      return dying;
    };
    await expect(run(asked, killedAt(11))).rejects.toThrow('killed');
    const after = killedAt(reached);
    await expect(run(asked, after)).rejects.toThrow('killed');
    expect(after.announced).toEqual([reached]);
  });

  it.each([
    ['a prompt', { kind: 'prompt', length: 3, init: { text: 'my fellow' }, lr: 0.05 }, 'exact'],
    ['all weights', { kind: 'full', lr: 1e-3 }, 'float'],
  ] as const)('trains %s, and goes on from a checkpoint to the same bytes', async (_, method, arithmetic) => {
    const variant: Variant = { params: { method }, mechanism: { ...mechanism, arithmetic } };
    const whole = await job(variant);
    const output = await run(whole, context());
    expect(output.proof).toMatchObject({ arithmetic, steps: 14 });
    const asked = await job(variant);
    await expect(run(asked, context(5))).rejects.toBeInstanceOf(JobCancelled);
    await run(asked, context());
    expect(await digestOf(asked.outputDirectory)).toBe(await digestOf(whole.outputDirectory));
    const { tuned, description } = await readGenerator(whole.outputDirectory, config);
    expect(tuned).toMatchObject({ kind: method.kind, classes: 2 });
    expect(description.method).toBe(method.kind);
    if (method.kind === 'full') {
      const model = await readModel(whole.outputDirectory);
      expect(model.config).toEqual(config);
      disposeTree(model.weights);
      await readTokenizer(whole.outputDirectory);
    }
    const other = await job({
      params: { method },
      mechanism: { ...mechanism, arithmetic: arithmetic === 'exact' ? 'float' : 'exact' },
    });
    await expect(run(other, context())).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
  });

  it("trains an adapter of a model of GPT-2's family, and refuses targets that it lacks", async () => {
    const gpt2 = { ...smallGpt2, vocab: config.vocab };
    const base = join(root, 'gpt2');
    await mkdir(base);
    const weights = smallWeights(gpt2);
    await writeModelFolder(base, gpt2, weights, { bosTokenId: 0, eosTokenId: 0 });
    disposeTree(weights);
    await copyTokenizer(join(root, 'base'), base);
    const asking = (targets: LinearName[]): Variant => ({
      params: { steps: 2, method: { kind: 'lora', rank: 2, alpha: 4, targets, lr: 5e-3 } },
      mechanism: { ...mechanism, steps: 2 },
      base,
    });
    const input = await job(asking(['qkv', 'down']));
    await run(input, context());
    const { tuned } = await readGenerator(input.outputDirectory, gpt2);
    expect(tuned).toMatchObject({ kind: 'lora', targets: ['qkv', 'down'] });
    await expect(run(await job(asking(['q'])), context())).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      hint: 'They have qkv, o, up, down.',
    });
  });

  it.runIf(requires('shared-data', 'training of a model of llama2.c'))(
    "trains all weights of a model of llama2.c, into a folder of Hugging Face's layout",
    async () => {
      const files = await mkdtemp(join(root, 'llama2c-'));
      const base = join(files, 'model.bin');
      await copyFile(join(sharedData, 'stories260k', 'stories260K.bin'), base);
      await copyFile(join(sharedData, 'stories260k', 'tok512.bin'), join(files, 'tokenizer.bin'));
      const params: Partial<FinetuneParams> = { steps: 1, warmup: 0, method: { kind: 'full', lr: 1e-3 } };
      const input = await job({ params, mechanism: { ...mechanism, steps: 1, arithmetic: 'float' }, base });
      await run(input, context());
      const { config: found, weights } = await readModel(input.outputDirectory);
      expect(found).toMatchObject({ family: 'llama', dim: 64, layers: 5, vocab: 512, tied: true });
      disposeTree(weights);
      const text = 'Once upon a time';
      const [before, after] = [await readTokenizer(base), await readTokenizer(input.outputDirectory)];
      expect(after.encode(text)).toEqual(before.encode(text));
    },
  );

  it('learns without DP in all weights', async () => {
    const observed = context();
    const params: Partial<FinetuneParams> = { method: { kind: 'full', lr: 5e-3 }, steps: 30, batch: 30 };
    await run(await job({ mechanism: { kind: 'unbounded' }, params }), observed);
    expect(observed.losses.at(-1)![1]).toBeLessThan(0.9 * observed.losses[0]![1]);
  });

  it('keeps to memory that was lowered between two attempts without DP', async () => {
    const input = await job({ mechanism: { kind: 'unbounded' }, params: { epsilon: 'inf' } });
    const first = context();
    first.metric = (_, __, step) => void (first.stopping = step === 3);
    await expect(run(input, first)).rejects.toBeInstanceOf(JobCancelled);
    expect(await readdir(input.checkpointDirectory)).toEqual(['training.safetensors']);
    const params = { ...input.node.params, memory: '64MiB' };
    await expect(run({ ...input, node: { ...input.node, params } }, context())).rejects.toMatchObject({
      code: 'MODEL_UNFIT',
    });
  });

  it('refuses a checkpoint of another mechanism', async () => {
    const input = await job();
    await expect(run(input, context(5))).rejects.toBeInstanceOf(JobCancelled);
    const other = (await job({ mechanism: { ...mechanism, noiseMultiplier: 0.1 } })).node;
    await expect(run({ ...input, node: other }, context())).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
  });

  it('refuses a mechanism that differs from the parameters, and data without one', async () => {
    const refused = { code: 'MECHANISM_MISMATCH' };
    await expect(run(await job({ params: { clip: 0.6 } }), context())).rejects.toMatchObject(refused);
    await expect(run(await job({ params: { epsilon: 'inf' } }), context())).rejects.toMatchObject(refused);
    const bare = await job();
    delete bare.node.privacy;
    await expect(run(bare, context())).rejects.toMatchObject(refused);
  });

  it('reports the loss of benchmark data only', async () => {
    const [open, hidden] = [context(), context()];
    const short = { params: { steps: 2 }, mechanism: { ...mechanism, steps: 2 } };
    await run(await job(short), open);
    await run(await job({ ...short, sensitivity: 'private' }), hidden);
    expect(open.losses.map(([step]) => step)).toEqual([1, 2]);
    expect(hidden.losses).toEqual([]);
    expect([...open.phases].sort()).toEqual(['compile', 'load', 'train', 'write']);
  });

  it('trains without DP when epsilon is inf, and learns', async () => {
    const observed = context();
    const input = await job({ mechanism: { kind: 'unbounded' }, params: { steps: 30, batch: 30 } });
    const output = await run(input, observed);
    expect(output.proof).toBeUndefined();
    expect(observed.announced).toEqual([]);
    const [start, end] = [observed.losses[0]![1], observed.losses.at(-1)![1]];
    expect(end).toBeLessThan(0.9 * start);
  });

  it.each<[string, Partial<FinetuneParams>]>([
    ['AdamW', { optimizer: { ...usualAdam, kind: 'adamw', weightDecay: 0.1 }, decay: 'cosine' }],
    ['SGD', { optimizer: { kind: 'sgd', momentum: 0.9 }, decay: 'constant' }],
    ['sums of losses', { lossDivisor: 1 }],
    ['the words of the class', { objective: 'full-lm', conditioning: 'prefix', sequence: 16 }],
  ])('learns with %s', async (_, params) => {
    const method = { ...(await job()).node.params.method, lr: 'optimizer' in params ? 0.02 : 5e-3 };
    const observed = context();
    await run(
      await job({ mechanism: { kind: 'unbounded' }, params: { method, steps: 30, batch: 30, ...params } }),
      observed,
    );
    expect(observed.losses.at(-1)![1]).toBeLessThan(0.95 * observed.losses[0]![1]);
  });

  it('with a prefix trains LoRA alone', async () => {
    const input = await job({
      params: { conditioning: 'prefix', sequence: 16, steps: 2 },
      mechanism: { ...mechanism, steps: 2 },
    });
    await run(input, context());
    expect(await readdir(input.outputDirectory)).not.toContain('conditioning.safetensors');
    expect((await readGenerator(input.outputDirectory, config)).tuned.classes).toBe(0);
  });

  it('refuses weights that are not finite, when all steps are recorded, and writes nothing', async () => {
    const observed = context();
    const input = await job({
      params: {
        optimizer: { kind: 'sgd', momentum: 0 },
        method: { kind: 'lora', rank: 2, alpha: 4, targets: ['q'], lr: 1e300 },
        ...{ steps: 1, warmup: 0 },
      },
      mechanism: { ...mechanism, steps: 1 },
      sensitivity: 'private',
    });
    await expect(run(input, observed)).rejects.toMatchObject({
      code: 'STEP_FAILED',
      message: 'Training ended with weights that are not finite.',
    });
    expect(observed.announced).toEqual([0]);
    expect(await readdir(input.outputDirectory)).toEqual([]);
  });

  it('fails when training moves nothing', async () => {
    const input = await job({
      mechanism: { kind: 'unbounded' },
      params: { method: { kind: 'lora', rank: 2, alpha: 4, targets: ['q'], lr: 0 } },
    });
    await expect(run(input, context())).rejects.toMatchObject({ code: 'STEP_FAILED' });
  });
});
