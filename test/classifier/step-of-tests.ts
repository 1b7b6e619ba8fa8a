/** @file A `train-classifier` step on made-up texts of two classes, for tests that run it in their own process. */

import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { JobContext, JobInput } from '../../activities/job.ts';
import { readDigested } from '../../datasets/index.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { OpenedArtifact } from '../../schemas/artifact.ts';
import type { NodePrivacy, PlanDataset, PlanNode } from '../../schemas/plan.ts';
import type { TrainClassifierParams } from '../../schemas/step-params.ts';
import { wordLevelTokenizer } from '../learning/word-level-tokenizer.ts';

const words = {
  cold: ['ice', 'snow', 'frost', 'winter', 'north', 'glove'],
  warm: ['sun', 'sand', 'heat', 'summer', 'south', 'beach'],
};

function rows(count: number, seed: number): string {
  const stream = seededStream(seed, 'texts of a test');
  const pick = <T>(from: readonly T[]): T => from[Math.floor(stream.uniform() * from.length)]!;
  return Array.from({ length: count }, (_, index) => {
    const label = (['cold', 'warm'] as const)[index % 2]!;
    const text = Array.from({ length: 6 }, () =>
      pick(stream.uniform() < 0.9 ? words[label] : Object.values(words).flat()),
    );
    return `${JSON.stringify({ text: text.join(' '), label })}\n`;
  }).join('');
}

/** What is written down of a step. */
export interface RecordingContext extends JobContext {
  announced: number[];
  metrics: string[];
}

export function recordingContext(changes: Partial<JobContext> = {}): RecordingContext {
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
    ...changes,
  };
}

export interface StepChanges {
  params: TrainClassifierParams;
  privacy?: NodePrivacy;
  synthetic?: boolean;
  dataset?: PlanDataset;
  /** Folder of a model. */
  model?: string;
  checkpoint?: string;
}

export interface StepOfTests {
  folder: string;
  dataset: PlanDataset;
  inputFor(changes: StepChanges): Promise<JobInput<'train-classifier'>>;
  remove(): Promise<void>;
}

export async function openStepOfTests(): Promise<StepOfTests> {
  const folder = await mkdtemp(join(tmpdir(), 'classifier step '));
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
  const dataset = { ...source, privacy, digest: (await readDigested(source, null)).digest };
  await writeFile(join(folder, 'key'), Buffer.alloc(32, 9));
  let count = 0;
  return {
    folder,
    dataset,
    async inputFor({ params, privacy: mechanism, synthetic, dataset: other, model, checkpoint }) {
      count += 1;
      const outputDirectory = join(folder, `output-${count}`);
      const checkpointDirectory = checkpoint ?? join(folder, `checkpoint-${count}`);
      await Promise.all([mkdir(outputDirectory), mkdir(checkpointDirectory, { recursive: true })]);
      const node = {
        id: 'classifier[seed=1]',
        key: 'k',
        params,
        inputs: {
          train: synthetic ? { nodes: ['synthetic'] } : { dataset: 'weather' },
          test: { dataset: 'weather' },
          ...(model !== undefined && { model: { nodes: ['base'] } }),
        },
        waivers: [],
        ...(mechanism && { privacy: mechanism }),
      } as unknown as PlanNode<'train-classifier'>;
      const made = (nodeId: string, directory: string): OpenedArtifact =>
        ({ nodeId, directory, key: nodeId }) as unknown as OpenedArtifact;
      return {
        node,
        datasets: { weather: other ?? dataset },
        models: {},
        artifacts: {
          ...(synthetic && { train: [made('synthetic', join(folder, 'synthetic'))] }),
          ...(model !== undefined && { model: [made('base', model)] }),
        },
        outputDirectory,
        checkpointDirectory,
        noiseKeyFile: join(folder, 'key'),
        datasetSecret: null,
      };
    },
    remove: () => rm(folder, { recursive: true }),
  };
}

/** @param steps null: without DP */
export const privacyOf = (
  steps: number | null,
  { batch = 150, arithmetic = 'exact' as 'exact' | 'float' } = {},
): NodePrivacy => ({
  dataset: 'weather',
  targetEpsilon: steps === null ? 'inf' : 8,
  epsilon: steps === null ? null : 8,
  delta: 1e-4,
  accountant: 'rdp',
  mechanism:
    steps === null
      ? { kind: 'unbounded' }
      : {
          kind: 'poisson-gaussian',
          samplingProbability: batch / 600,
          noiseMultiplier: 0.6,
          steps,
          clipNorm: 1,
          expectedBatchSize: batch,
          arithmetic,
        },
  digest: 'mechanism',
});

/** The small BERT of the fixtures with a tokenizer that knows the texts' words. */
export async function writeEncoder(directory: string): Promise<void> {
  const vocabulary = ['[UNK]', '[CLS]', '[SEP]', ...Object.values(words).flat()];
  await cp(fileURLToPath(new URL('../learning/fixtures/models/bert', import.meta.url)), directory, { recursive: true });
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(wordLevelTokenizer(vocabulary)));
  await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify({ unk_token: '[UNK]' }));
}
