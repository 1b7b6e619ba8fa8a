import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { run as compare } from '../../activities/compare.ts';
import type { JobContext, JobInput } from '../../activities/job.ts';
import { run as trainClassifier } from '../../activities/train-classifier.ts';
import { readDigested } from '../../datasets/index.ts';
import { WordCnn } from '../../learning/word-cnn/network.ts';
import { tInterval, wilsonInterval } from '../../measures/index.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { OpenedArtifact } from '../../schemas/artifact.ts';
import type { NodePrivacy, PlanDataset, PlanNode } from '../../schemas/plan.ts';
import type { TrainClassifierParams } from '../../schemas/step-params.ts';

const words = {
  cold: ['ice', 'snow', 'frost', 'winter', 'north', 'glove'],
  warm: ['sun', 'sand', 'heat', 'summer', 'south', 'beach'],
};

function rows(count: number, seed: number, names = ['cold', 'warm'] as const): string {
  const stream = seededStream(seed, 'texts of a test');
  const pick = <T>(from: readonly T[]): T => from[Math.floor(stream.uniform() * from.length)]!;
  return Array.from({ length: count }, (_, index) => {
    const label = names[index % 2]!;
    const text = Array.from({ length: 6 }, () =>
      pick(stream.uniform() < 0.9 ? words[label] : Object.values(words).flat()),
    );
    return `${JSON.stringify({ text: text.join(' '), label })}\n`;
  }).join('');
}

let folder: string;
let dataset: PlanDataset;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'classifier step '));
  await writeFile(join(folder, 'train.jsonl'), rows(600, 1));
  await writeFile(join(folder, 'test.jsonl'), rows(101, 2));
  await mkdir(join(folder, 'synthetic'));
  await writeFile(join(folder, 'synthetic', 'synthetic.jsonl'), rows(400, 3));
  // In another order than the test set's: classes go by name.
  await writeFile(join(folder, 'synthetic', 'labels.json'), '["warm","cold"]');
  const file = (name: string) => ({ path: join(folder, name), format: 'jsonl' as const, compression: 'none' as const });
  const source = {
    name: 'weather',
    files: { train: file('train.jsonl'), test: file('test.jsonl') },
    text: 'text',
    label: { column: 'label', values: ['cold', 'warm'] },
    sensitivity: 'benchmark' as const,
  };
  const privacy = { unit: 'record' as const, size: 600, counted: false, delta: 1e-4, budget: null };
  dataset = { ...source, privacy, digest: (await readDigested(source, null)).digest };
  await writeFile(join(folder, 'key'), Buffer.alloc(32, 9));
});
afterAll(() => rm(folder, { recursive: true }));

const params: TrainClassifierParams = {
  family: 'word-cnn',
  epsilon: 'inf',
  buckets: 500,
  words: 16,
  embedding: 16,
  filters: 8,
  widths: [1, 2, 3],
  dropout: 0.2,
  lr: 5e-3,
  batch: 32,
  epochs: 6,
  dp: { steps: 40, batch: 150, clip: 1, lr: 0.05, buckets: 200, embedding: 8, filters: 8 },
  checkpoint: { steps: 10, seconds: 60 },
  seed: 1,
};
const privacy = (bounded: boolean): NodePrivacy => ({
  dataset: 'weather',
  targetEpsilon: bounded ? 8 : 'inf',
  epsilon: bounded ? 8 : null,
  delta: 1e-4,
  accountant: 'rdp',
  mechanism: bounded
    ? {
        kind: 'poisson-gaussian',
        samplingProbability: 0.25,
        noiseMultiplier: 0.6,
        steps: 40,
        clipNorm: 1,
        expectedBatchSize: 150,
        arithmetic: 'exact',
      }
    : { kind: 'unbounded' },
  digest: 'mechanism',
});

function recordingContext(): JobContext & { announced: number[]; metrics: string[] } {
  const announced: number[] = [];
  const metrics: string[] = [];
  return {
    announced,
    metrics,
    stopping: false,
    progress: () => undefined,
    metric: (name) => void metrics.push(name),
    breathe: () => Promise.resolve(),
    announceStep: async (step) => void announced.push(step),
    checkFence: () => Promise.resolve(),
  };
}

let count = 0;
async function inputFor(change: {
  params?: Partial<TrainClassifierParams>;
  privacy?: NodePrivacy;
  synthetic?: boolean;
  dataset?: PlanDataset;
}): Promise<JobInput<'train-classifier'>> {
  const outputDirectory = join(folder, `output-${(count += 1)}`);
  const checkpointDirectory = join(folder, `checkpoint-${count}`);
  await Promise.all([mkdir(outputDirectory), mkdir(checkpointDirectory)]);
  const node = {
    id: 'classifier[seed=1]',
    key: 'k',
    params: { ...params, ...change.params },
    inputs: {
      train: change.synthetic ? { nodes: ['synthetic'] } : { dataset: 'weather' },
      test: { dataset: 'weather' },
    },
    ...(change.privacy && { privacy: change.privacy }),
  } as unknown as PlanNode<'train-classifier'>;
  const synthetic = { nodeId: 'synthetic', directory: join(folder, 'synthetic') } as unknown as OpenedArtifact;
  return {
    node,
    datasets: { weather: change.dataset ?? dataset },
    models: {},
    artifacts: change.synthetic ? { train: [synthetic] } : {},
    outputDirectory,
    checkpointDirectory,
    noiseKeyFile: join(folder, 'key'),
    datasetSecret: null,
  };
}

describe('train-classifier', () => {
  it('learns from real records and from synthetic ones, whose classes go by name, and repeats for a seed', async () => {
    const results: number[] = [];
    for (const synthetic of [false, true, true]) {
      const input = await inputFor({ synthetic, ...(!synthetic && { privacy: privacy(false) }) });
      const context = recordingContext();
      const { metrics, proof } = await trainClassifier(input, context);
      expect(metrics['accuracy']).toBeGreaterThan(0.9);
      expect(metrics).toMatchObject({ testRecords: 101, majority: 51 / 101 });
      expect([proof, context.announced]).toEqual([undefined, []]);
      const file = JSON.parse(await readFile(join(input.outputDirectory, 'metrics.json'), 'utf8')) as {
        confusion: number[][];
      };
      expect(file).toMatchObject(metrics);
      expect(file.confusion.flat().reduce((a, b) => a + b)).toBe(101);
      results.push(metrics['accuracy']!, metrics['macroF1']!);
    }
    expect(results.slice(2, 4)).toEqual(results.slice(4, 6));
  });

  it('trains with DP by the reserved mechanism, announces each step and proves what it did', async () => {
    const context = recordingContext();
    const input = await inputFor({ params: { epsilon: 8 }, privacy: privacy(true) });
    const { metrics, proof } = await trainClassifier(input, context);
    expect(context.announced).toEqual(Array.from({ length: 40 }, (_, step) => step));
    expect(proof).toEqual({
      samplingProbability: 0.25,
      noiseMultiplier: 0.6,
      clipNorm: 1,
      expectedBatchSize: 150,
      arithmetic: 'exact',
      steps: 40,
      sampler: 'poisson',
    });
    expect(metrics['accuracy']).toBeGreaterThan(0.7);
  });

  it.each([true, false])('tests each record apart from all others where noisy counts leave: %s', async (released) => {
    const release = {
      ...{ dataset: 'weather', targetEpsilon: 0.1, epsilon: 0.1, delta: 1e-4, accountant: 'pld', digest: 'release' },
      mechanism: { kind: 'discrete-laplace', scale: 10, sensitivity: 1 },
    };
    const input = await inputFor({ params: { epsilon: 8 }, privacy: privacy(true) });
    if (released) Object.assign(input.node, { release });
    // Training with DP never asks for the products of some words only.
    const table = vi.spyOn(WordCnn.prototype, 'table');
    await trainClassifier(input, recordingContext());
    expect(table).toHaveBeenCalledTimes(released ? 0 : 1);
    table.mockRestore();
  });

  it('refuses data that are not public without a mechanism, and a mechanism that differs from the parameters', async () => {
    await expect(trainClassifier(await inputFor({}), recordingContext())).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
    });
    const wrong = { params: { epsilon: 8, dp: { ...params.dp, steps: 41 } }, privacy: privacy(true) };
    await expect(trainClassifier(await inputFor(wrong), recordingContext())).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
    });
    const infinite = { params: { epsilon: 8 as const }, privacy: privacy(false) };
    await expect(trainClassifier(await inputFor(infinite), recordingContext())).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
    });
  });

  it('refuses data that have changed since the plan', async () => {
    const input = await inputFor({ privacy: privacy(false), dataset: { ...dataset, digest: '0'.repeat(64) } });
    await expect(trainClassifier(input, recordingContext())).rejects.toMatchObject({ code: 'DATA_CHANGED' });
  });
});

describe('compare', () => {
  const result = (accuracy: number): OpenedArtifact =>
    ({
      nodeId: `result ${accuracy}`,
      manifest: { metrics: { accuracy, macroF1: accuracy - 0.1, majority: 0.6, testRecords: 500 } },
    }) as unknown as OpenedArtifact;

  async function compared(
    metric: 'accuracy' | 'macro-f1',
    artifacts: Record<string, OpenedArtifact[]>,
  ): Promise<{ metrics: Record<string, number>; file: Record<string, unknown> }> {
    const outputDirectory = join(folder, `comparison-${(count += 1)}`);
    await mkdir(outputDirectory);
    const node = { id: 'comparison', params: { metric, over: ['seed'] } } as unknown as PlanNode<'compare'>;
    const rest = { datasets: {}, models: {}, checkpointDirectory: folder, noiseKeyFile: null, datasetSecret: null };
    const { metrics } = await compare({ node, artifacts, outputDirectory, ...rest }, recordingContext());
    const file = JSON.parse(await readFile(join(outputDirectory, 'comparison.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    return { metrics, file };
  }

  it('gives mean, deviation, the t interval over seeds and the gap to the ceiling', async () => {
    const values = [0.8, 0.82, 0.84];
    const { metrics, file } = await compared('accuracy', {
      'arms.real-dp': values.map(result),
      'arms.synthetic': [result(0.7)],
      ceiling: [result(0.9)],
    });
    expect(metrics).toEqual({
      'real-dp': expect.closeTo(0.82, 12) as number,
      synthetic: 0.7,
      ceiling: 0.9,
      majority: 0.6,
    });
    const { arms, gaps } = file as { arms: Record<string, Record<string, unknown>>; gaps: Record<string, number> };
    expect(arms['real-dp']).toMatchObject({ n: 3, values, ...tInterval(values) });
    expect(arms['real-dp']!['sd']).toBeCloseTo(0.02, 12);
    expect(arms['synthetic']).toMatchObject({ n: 1, sd: 0, ...wilsonInterval(0.7, 500) });
    expect(gaps['real-dp']).toBeCloseTo(0.08, 12);
    expect(file).toMatchObject({ metric: 'accuracy', over: ['seed'], majority: expect.closeTo(0.6, 12) as number });
  });

  it('has no interval for one macro-F1, and refuses an empty table', async () => {
    const { file } = await compared('macro-f1', { 'arms.a': [result(0.7)] });
    expect(file['arms']).toMatchObject({ a: { low: null, high: null } });
    expect(file).not.toHaveProperty('ceiling');
    await expect(compared('accuracy', {})).rejects.toMatchObject({ code: 'STEP_FAILED' });
  });
});
