import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { readDigested, type DatasetSource } from '../../datasets/index.ts';
import { JobCancelled, type JobContext, type JobInput } from '../../activities/job.ts';
import { run } from '../../activities/pretrain.ts';
import type { PretrainParams } from '../../schemas/step-params.ts';
import { readModel, readTokenizer } from '../../learning/formats/model.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const params: PretrainParams = {
  architecture: { dim: 32, layers: 1, heads: 2, kvHeads: 2, hidden: 48, context: 32 },
  vocabulary: 320,
  tokens: 8 * 16 * 60,
  batch: 8,
  sequence: 16,
  lr: 1e-2,
  warmup: 0.1,
  validation: 0.1,
  checkpoint: { steps: 250, seconds: 60 },
  seed: 1,
};

const subjects = ['the cat', 'a dog', 'my old friend', 'the teacher', 'every child'];
const verbs = ['sees', 'likes', 'follows', 'paints'];
const objects = ['the red house', 'a small boat', 'the garden', 'two birds', 'the sea'];

let folder: string;
let corpusFile: string;
let corpusDigest: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pretrain-'));
  corpusFile = join(folder, 'corpus.jsonl');
  const texts = subjects.flatMap((subject) =>
    verbs.flatMap((verb) => objects.map((object) => `${subject} ${verb} ${object}.`)),
  );
  const content = texts.map((text) => `${JSON.stringify({ text })}\n`).join('');
  await writeFile(corpusFile, content);
  const corpus: DatasetSource = {
    name: 'corpus',
    files: { train: { path: corpusFile, format: 'jsonl', compression: 'none' } },
    ...{ text: 'text', label: null, sensitivity: 'public' },
  };
  corpusDigest = (await readDigested(corpus, null)).digest;
  const manifest = {
    file: { sha256: createHash('sha256').update(content).digest('hex') },
    sources: { grammar: { passages: texts.length, characters: 1, licence: 'made for this test' } },
  };
  await writeFile(join(folder, 'manifest.json'), JSON.stringify(manifest));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function input(name: string, changes: { sensitivity?: 'private' } = {}): Promise<JobInput<'pretrain'>> {
  const outputDirectory = join(folder, `${name}-output-${Math.random()}`);
  const checkpointDirectory = join(folder, `${name}-checkpoints`);
  await mkdir(outputDirectory);
  await mkdir(checkpointDirectory, { recursive: true });
  return {
    node: {
      id: 'base',
      slug: 'base',
      step: 'base',
      kind: 'pretrain',
      kindVersion: 1,
      key: 'key',
      axes: {},
      params,
      inputs: { corpus: { dataset: 'corpus' } },
      needs: [],
      label: 'public',
      sensitivity: 'public',
      waivers: [],
      position: { file: '', line: 1, column: 1 },
      cached: null,
    },
    datasets: {
      corpus: {
        name: 'corpus',
        files: { train: { path: corpusFile, format: 'jsonl', compression: 'none' } },
        text: 'text',
        label: null,
        sensitivity: changes.sensitivity ?? 'public',
        privacy: null,
        digest: corpusDigest,
      },
    },
    models: {},
    artifacts: {},
    outputDirectory,
    checkpointDirectory,
    noiseKeyFile: null,
    datasetSecret: null,
  } as JobInput<'pretrain'>;
}

/** A job that is asked to stop after `stopAfter` training steps. */
function context(stopAfter = Infinity): JobContext & { losses: [number, number][]; firstStep: number } {
  let done = 0;
  return {
    losses: [],
    firstStep: Infinity,
    progress(progress) {
      if (progress.phase !== 'train') return;
      done = progress.done;
      this.firstStep = Math.min(this.firstStep, done);
    },
    metric(name, value, step) {
      if (name === 'training-loss') this.losses.push([step, value]);
    },
    get stopping() {
      return done >= stopAfter;
    },
    breathe() {
      return done >= stopAfter ? Promise.reject(new JobCancelled()) : Promise.resolve();
    },
    announceStep: () => Promise.resolve(),
    checkFence: () => Promise.resolve(),
  };
}

const weightsOf = (given: JobInput): Promise<Buffer> => readFile(join(given.outputDirectory, 'model.safetensors'));

describe('pre-training', () => {
  let whole: JobInput<'pretrain'>;
  let metrics: Record<string, number>;
  const watcher = context();
  beforeAll(async () => {
    whole = await input('whole');
    ({ metrics } = await run(whole, watcher));
  });

  it('learns', () => {
    const losses = watcher.losses.map(([, loss]) => loss);
    expect(losses.at(-1)!).toBeLessThan(losses[0]! / 2);
    // Uniform guessing costs ln(vocabulary) = 5.8 nats a token.
    expect(metrics['validation-nats-per-token']!).toBeLessThan(3);
    expect(metrics['validation-nats-per-byte']!).toBeLessThan(metrics['validation-nats-per-token']!);
    expect(metrics['tokens']).toBe(params.tokens);
  });

  it('writes a model folder that loads, with tokenizer and card', async () => {
    expect((await readdir(whole.outputDirectory)).sort()).toEqual([
      'README.md',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    const { config, weights } = await readModel(whole.outputDirectory);
    const tokenizer = await readTokenizer(whole.outputDirectory);
    expect(config.vocab).toBe(tokenizer.vocabularySize);
    expect(config.context).toBe(32);
    const parameters = Object.values(weights).reduce((sum, tensor) => sum + tensor.size, 0);
    expect(parameters).toBe(metrics['parameters']);
    const card = await readFile(join(whole.outputDirectory, 'README.md'), 'utf8');
    expect(card).toContain('| grammar | 100 | 1 | made for this test |');
    expect(card).toContain(`${metrics['validation-nats-per-byte']!.toFixed(3)} nats a byte`);
  });

  it('goes on from the checkpoint of a stopped attempt and ends with the same weights', async () => {
    const stopped = await input('resumed');
    await expect(run(stopped, context(23))).rejects.toThrow(JobCancelled);
    expect(await readdir(stopped.checkpointDirectory)).toEqual(['training.safetensors']);
    const again = await input('resumed');
    const second = context();
    await run(again, second);
    expect(second.firstStep).toBe(24);
    expect(await weightsOf(again)).toEqual(await weightsOf(whole));
  });

  it('starts over beside a damaged checkpoint, or one of another step or model', async () => {
    const damaged = await input('damaged');
    await expect(run(damaged, context(3))).rejects.toThrow(JobCancelled);
    const file = join(damaged.checkpointDirectory, 'training.safetensors');
    const whole = await readFile(file);
    const firstStep = async (bytes: Buffer, change: (node: JobInput<'pretrain'>['node']) => void = () => undefined) => {
      await writeFile(file, bytes);
      const again = await input('damaged');
      change(again.node);
      const watcher = context(1);
      await expect(run(again, watcher)).rejects.toThrow(JobCancelled);
      return watcher.firstStep;
    };
    const spoilt = Buffer.from(whole);
    spoilt[spoilt.length - 3]! ^= 1;
    expect(await firstStep(spoilt)).toBe(1);
    expect(await firstStep(Buffer.alloc(0))).toBe(1);
    expect(await firstStep(whole, (node) => (node.key = 'another key'))).toBe(1);
    const architecture = { ...params.architecture, hidden: 40 };
    expect(await firstStep(whole, (node) => (node.params = { ...params, architecture }))).toBe(1);
    expect(await firstStep(whole)).toBe(4);
  });

  it('refuses a corpus that is not public', async () => {
    await expect(run(await input('private', { sensitivity: 'private' }), context())).rejects.toMatchObject({
      code: 'STEP_FAILED',
    });
  });
});
