import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { run } from '../../activities/generate.ts';
import type { JobContext, JobInput, StepOutput } from '../../activities/job.ts';
import { readSynthetic } from '../../datasets/index.ts';
import { writeGenerator, type GeneratorDescription } from '../../learning/tuning/files.ts';
import { classBias, promptName, sizeOf, trainedParameters } from '../../learning/tuning/parameters.ts';
import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { initialWeights } from '../../learning/decoder/weights.ts';
import { mergeAdapter } from '../../learning/decoding/merge.ts';
import { toHost, toTensors, writeModelFolder } from '../../learning/formats/model-folder.ts';
import { modelDigest } from '../../learning/formats/model-digest.ts';
import { readTokenizer } from '../../learning/formats/model.ts';
import { trainBytePairs, writeTokenizer } from '../../learning/tokenizer/byte-pair-training.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { GenerateParams } from '../../schemas/step-params.ts';

// Programs are compiled: slow on a busy machine.
vi.setConfig({ testTimeout: 240_000 });

const labels = ['cold', 'warm'];
let folder: string;
let config: DecoderConfig;
let baseDigest: string;
/** Token that the class bias makes likely in each class. */
let favoured: number[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'generate-'));
  const base = join(folder, 'base');
  await writeTokenizer(base, trainBytePairs(['ice snow sun sand', 'snow ice sand sun ice snow sun sand'], 280));
  const tokenizer = await readTokenizer(base);
  config = {
    family: 'llama',
    dim: 16,
    layers: 1,
    heads: 2,
    kvHeads: 1,
    hidden: 24,
    vocab: tokenizer.vocabularySize,
    context: 32,
    ropeTheta: 10_000,
    rmsEps: 1e-5,
    tied: true,
  };
  const stream = seededStream(1, 'weights');
  const weights = initialWeights(config, (out, deviation) => stream.fillGaussian(out, deviation));
  await writeModelFolder(base, config, weights, { bosTokenId: tokenizer.bosId, eosTokenId: tokenizer.eosId });

  baseDigest = await modelDigest(base);
  favoured = ['ice', 'sun'].map((word) => tokenizer.encode(word)[0]!);
  for (const conditioning of ['class-bias', 'prefix'] as const) {
    const directory = join(folder, conditioning);
    await mkdir(directory);
    const classes = conditioning === 'class-bias' ? 2 : 0;
    const tuned = { kind: 'lora', rank: 2, alpha: 4, targets: ['q', 'down'], classes } as const;
    const values = Object.fromEntries(
      trainedParameters(config, tuned).map((parameter) => {
        const numbers = new Float32Array(sizeOf(parameter));
        if (parameter.group === 'lora') stream.fillGaussian(numbers, 0.05);
        if (parameter.name === classBias) {
          favoured.forEach((id, label) => (numbers[label * config.vocab + id] = 6));
          labels.forEach((_, label) => (numbers[label * config.vocab + tokenizer.eosId] = 5));
        }
        return [parameter.name, numbers];
      }),
    );
    const description: GeneratorDescription = {
      method: 'lora',
      dataset: 'weather',
      labels,
      conditioning,
      sequence: 16,
      base: { name: 'base', digest: baseDigest },
    };
    const tokens = { bosTokenId: tokenizer.bosId, eosTokenId: tokenizer.eosId };
    await writeGenerator(directory, config, { tuned, description, values }, tokens);
    if (conditioning === 'prefix') continue;
    // All weights, with what the adapter would add to them.
    const tensors = toTensors(
      Object.fromEntries(
        trainedParameters(config, tuned).map(({ name, shape }) => [name, { shape, values: values[name]! }]),
      ),
    );
    const merged = toHost(mergeAdapter(config, weights, tuned, tensors).weights);
    const whole = Object.fromEntries(Object.entries(merged).map(([name, tensor]) => [name, tensor.values]));
    const full = {
      tuned: { kind: 'full', classes } as const,
      description: { ...description, method: 'full' } as const,
      values: { ...values, ...whole },
    };
    await mkdir(join(folder, 'full'));
    await writeGenerator(join(folder, 'full'), config, full, tokens);
    const prompt = new Float32Array(2 * config.dim);
    stream.fillGaussian(prompt, 1);
    const prompted = {
      tuned: { kind: 'prompt', length: 2, classes } as const,
      description: { ...description, method: 'prompt' } as const,
      values: { ...values, [promptName]: prompt },
    };
    await mkdir(join(folder, 'prompt'));
    await writeGenerator(join(folder, 'prompt'), config, prompted, tokens);
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const quiet: JobContext = {
  progress: () => undefined,
  metric: () => undefined,
  breathe: () => Promise.resolve(),
  stopping: false,
  announceStep: () => Promise.resolve(),
  checkFence: () => Promise.resolve(),
};

interface Generated {
  output: StepOutput;
  directory: string;
  lines: string;
}

async function generate(
  generator: string,
  changes: Partial<GenerateParams> = {},
  model: { path?: string; digest?: string } = {},
): Promise<Generated> {
  const directory = await mkdtemp(join(folder, 'output-'));
  const params: GenerateParams = {
    ...{ count: 300, temperature: 1, topP: 1, repetitionPenalty: 1, banned: [], maxTokens: 12, seed: 1 },
    ...changes,
  };
  const input = {
    node: { id: 'synthetic', params, inputs: { generator: { nodes: ['generator'] }, model: { model: 'base' } } },
    models: { base: { name: 'base', path: join(folder, 'base'), digest: baseDigest, ...model } },
    artifacts: { generator: [{ directory: join(folder, generator) }] },
    outputDirectory: directory,
  } as unknown as JobInput<'generate'>;
  const output = await run(input, quiet);
  return { output, directory, lines: await readFile(join(directory, 'synthetic.jsonl'), 'utf8') };
}

describe('generation', () => {
  let first: Generated;
  beforeAll(async () => {
    first = await generate('class-bias');
  });

  it('writes the wanted number of records, none empty, with labels by name', async () => {
    expect((await readdir(first.directory)).sort()).toEqual(['labels.json', 'synthetic.jsonl']);
    const records = await readSynthetic(first.directory);
    expect(records).toHaveLength(300);
    for (const { text } of records) expect(text.trim()).not.toBe('');
    const { metrics } = first.output;
    expect(metrics['records']).toBe(300);
    expect(metrics['empty']!).toBeGreaterThan(0);
    expect(metrics['truncated']!).toBeLessThan(300);
    expect(metrics['tokens']!).toBeGreaterThan(300);
    expect(metrics['tokens']!).toBeLessThanOrEqual(300 * 12);
  });

  it('draws labels uniformly and lets the class shape the text', async () => {
    const records = await readSynthetic(first.directory);
    const warm = records.filter(({ label }) => label === 1);
    // Five standard deviations of a fair coin, 300 times.
    expect(Math.abs(warm.length - 150)).toBeLessThan(5 * Math.sqrt(75));
    const share = (word: string, label: number): number => {
      const own = records.filter((record) => record.label === label);
      return own.filter(({ text }) => text.includes(word)).length / own.length;
    };
    expect(share('ice', 0)).toBeGreaterThan(2 * share('ice', 1));
    expect(share('sun', 1)).toBeGreaterThan(2 * share('sun', 0));
  });

  it('repeats byte for byte with the same seed, and differs with another', async () => {
    expect((await generate('class-bias')).lines).toBe(first.lines);
    expect((await generate('class-bias', { seed: 2 })).lines).not.toBe(first.lines);
  });

  it('keeps its first records when more are asked for', async () => {
    const { lines } = await generate('class-bias', { count: 40 });
    expect(first.lines.startsWith(lines)).toBe(true);
  });

  it('writes with all weights what the adapter merged into them writes', async () => {
    expect((await generate('full')).lines).toBe(first.lines);
  });

  it('writes otherwise behind a prompt', async () => {
    const { lines, output } = await generate('prompt');
    expect(output.metrics['records']).toBe(300);
    expect(lines).not.toBe(first.lines);
  });

  it('refuses a base model that changed since the plan was made, and one that the generator was not trained on', async () => {
    const changed = join(folder, 'changed');
    await cp(join(folder, 'base'), changed, { recursive: true });
    await writeFile(join(changed, 'note.json'), '{}');
    await expect(generate('class-bias', {}, { path: changed })).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining('no longer the one that the plan was made for') as string,
    });
    const digest = await modelDigest(changed);
    await expect(generate('class-bias', {}, { path: changed, digest })).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining('trained on another base model') as string,
    });
  });

  it('bans tokens, and refuses to ban what is not one token', async () => {
    const { lines } = await generate('class-bias', { banned: ['ice', ' ice'] });
    // What is left is spelt in other tokens.
    const count = (text: string): number => text.split('ice').length - 1;
    expect(count(first.lines)).toBeGreaterThan(100);
    expect(count(lines)).toBeLessThan(count(first.lines) / 10);
    await expect(generate('class-bias', { banned: ['ice and sun'] })).rejects.toMatchObject({ code: 'STEP_FAILED' });
  });

  it('refuses texts that are longer than the model reads', async () => {
    await expect(generate('class-bias', { maxTokens: 10_000 })).rejects.toThrow(/positions; the model has/);
  });

  it('cuts texts at the most tokens and counts them', async () => {
    const { output } = await generate('class-bias', { count: 200, maxTokens: 2 });
    expect(output.metrics['truncated']!).toBeGreaterThan(20);
    expect(output.metrics['tokens']!).toBeLessThanOrEqual(400);
  });

  it('feeds the words of the class as a prefix, which is no part of the text', async () => {
    const { lines, output } = await generate('prefix', { count: 20 });
    expect(output.metrics['records']).toBe(20);
    expect(lines).not.toContain('[weather]');
  });
});
