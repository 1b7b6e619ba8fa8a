import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { JobContext } from '../../activities/job.ts';
import { run as measure } from '../../activities/measure.ts';
import { readDigested, type DatasetSource } from '../../datasets/index.ts';
import { seededStream } from '../../privacy/noise.ts';
import { openTinyWorld } from '../orchestration/tiny-experiment.ts';
import { modelDigest } from '../../learning/formats/model-digest.ts';
import type { Measurement } from '../../schemas/measurement.ts';
import type { PlanDataset, PlanNode } from '../../schemas/plan.ts';
import type { MeasureParams } from '../../schemas/step-params.ts';

const vocabularies = {
  cold: ['ice', 'snow', 'frost', 'winter', 'north', 'glove', 'wool', 'sleet'],
  warm: ['sun', 'sand', 'heat', 'summer', 'south', 'beach', 'linen', 'noon'],
};

interface Row {
  text: string;
  label: string;
}

/** @param unlike adds words that real rows don't have. */
function rows(count: number, seed: number, { unlike = false } = {}): Row[] {
  const stream = seededStream(seed, 'texts of a test');
  return Array.from({ length: count }, (_, index) => {
    const label = index % 2 === 0 ? 'cold' : 'warm';
    const words = vocabularies[label as keyof typeof vocabularies];
    const length = 6 + Math.floor(stream.uniform() * 6);
    const text = Array.from({ length }, () => words[Math.floor(stream.uniform() * words.length)]!);
    return { text: unlike ? `odd ${text.slice(0, 3).join(' odd ')}` : text.join(' '), label };
  });
}

const lines = (records: readonly object[]): string => records.map((row) => `${JSON.stringify(row)}\n`).join('');

let folder: string;
const train = rows(400, 1);
let datasets: Record<string, PlanDataset>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'measure step '));
  await writeFile(join(folder, 'train.jsonl'), lines(train));
  await writeFile(join(folder, 'test.jsonl'), lines(rows(300, 2)));
  await writeFile(join(folder, 'few.jsonl'), lines(rows(3, 2)));
  const file = (name: string) => ({ path: join(folder, name), format: 'jsonl' as const, compression: 'none' as const });
  const [whole, testOnly] = [{ train: file('train.jsonl'), test: file('test.jsonl') }, { test: file('test.jsonl') }];
  const privacy = { unit: 'record' as const, size: 400, counted: false, delta: 1e-4, budget: null };
  const planned = async (name: string, change: Partial<DatasetSource> = {}): Promise<[string, PlanDataset]> => {
    const label = { column: 'label', values: ['cold', 'warm'] };
    const source = { name, files: whole, text: 'text', label, sensitivity: 'benchmark' as const, ...change };
    return [name, { ...source, privacy, digest: (await readDigested(source, Buffer.alloc(32, 1))).digest }];
  };
  datasets = Object.fromEntries([
    await planned('weather'),
    await planned('test-only', { files: testOnly, label: null }),
    await planned('few', { files: { test: file('few.jsonl') } }),
    await planned('secret', { sensitivity: 'private' }),
  ]);
});
afterAll(() => rm(folder, { recursive: true }));

const context: JobContext = {
  stopping: false,
  progress: () => undefined,
  metric: () => undefined,
  breathe: () => Promise.resolve(),
  announceStep: () => Promise.resolve(),
  checkFence: () => Promise.resolve(),
};
const params: MeasureParams = { rows: 120, sequence: 16, similarity: 0.8, resamples: 20, seed: 1 };
let count = 0;

interface Wishes {
  records?: Row[];
  labels?: string[];
  real?: string;
  change?: Partial<MeasureParams>;
  waivers?: string[];
  /** Folder of a decoder. */
  model?: string;
}

async function measured({ records = rows(200, 3), labels = ['warm', 'cold'], real = 'weather', ...rest }: Wishes) {
  const directory = join(folder, `made-${(count += 1)}`);
  const outputDirectory = join(directory, 'out');
  await mkdir(outputDirectory, { recursive: true });
  await writeFile(join(directory, 'synthetic.jsonl'), lines(records));
  await writeFile(join(directory, 'labels.json'), JSON.stringify(labels));
  const { model } = rest;
  const inputs = {
    ...{ synthetic: { nodes: ['synthetic'] }, real: { dataset: real } },
    ...(model && { model: { model: 'base' } }),
  };
  const node = { id: 'nearness', inputs, params: { ...params, ...rest.change }, waivers: rest.waivers ?? [] };
  const { metrics } = await measure(
    {
      node: node as unknown as PlanNode<'measure'>,
      datasets,
      models: model ? { base: { name: 'base', path: model, digest: await modelDigest(model) } } : {},
      artifacts: { synthetic: [{ nodeId: 'synthetic', key: '', directory, manifest: {} as never }] },
      outputDirectory,
      checkpointDirectory: directory,
      noiseKeyFile: null,
      datasetSecret: Buffer.alloc(32, 1).toString('hex'),
    },
    context,
  );
  const text = await readFile(join(outputDirectory, 'measures.json'), 'utf8');
  return { metrics, text, ...(JSON.parse(text) as Measurement) };
}

describe('a measure step', () => {
  it('finds text of the same source as near as other test rows are, whatever the order of the class names', async () => {
    const { metrics, measures, leftOut, rows: size } = await measured({});
    expect(size).toBe(120);
    expect(Object.keys(leftOut).sort()).toEqual(['frechetDistance', 'mauve', 'perplexity', 'precision', 'recall']);
    for (const name of ['unigramDivergence', 'bigramDivergence', 'lengthDivergence', 'distinct2', 'selfBleu']) {
      const { synthetic, ceiling, train: training } = measures[name]!;
      expect(synthetic!.error).toBeGreaterThan(0);
      for (const other of [ceiling!, training!]) {
        const error = Math.hypot(synthetic!.error, other.error);
        expect([name, Math.abs(synthetic!.value - other.value) < 5 * error]).toEqual([name, true]);
      }
      expect(metrics).toMatchObject({
        [name]: synthetic!.value,
        [`${name}Error`]: synthetic!.error,
        [`${name}Ceiling`]: ceiling!.value,
        [`${name}Train`]: training!.value,
      });
    }
    // Words tell the label.
    expect(measures['labelFidelity']).toMatchObject({ synthetic: { value: 1 }, ceiling: { value: 1 } });
    expect(measures['trainCopies']).not.toHaveProperty('train');
  });

  it('finds other text far, and copies of training rows with it', async () => {
    const copied = rows(200, 4, { unlike: true }).map((row, index) => {
      if (index % 4 > 1) return row;
      const { text, label } = train[index]!;
      return { text: index % 4 === 0 ? text : `${text.toUpperCase()} `, label: index % 4 === 0 ? label : 'warm' };
    });
    const { measures, metrics } = await measured({ records: copied, change: { rows: 150 } });
    const { synthetic, ceiling } = measures['unigramDivergence']!;
    expect(synthetic!.value - ceiling!.value).toBeGreaterThan(5 * Math.hypot(synthetic!.error, ceiling!.error));
    // Half of the rows are near copies, of which half are exact; 150 of the 200 are drawn.
    const standardError = Math.sqrt(0.25 / 150);
    expect(Math.abs(metrics['nearTrainCopies']! - 0.5)).toBeLessThan(5 * standardError);
    expect(Math.abs(metrics['trainCopies']! - 0.25)).toBeLessThan(5 * standardError);
    expect(metrics['trainCopiesCeiling']).toBe(0);
    expect(metrics['labelDistance']).toBeGreaterThan(0);
  });

  it('repeats to the last digit for a seed, and draws other rows for another', async () => {
    const [first, again, other] = [await measured({}), await measured({}), await measured({ change: { seed: 2 } })];
    expect(again.text).toBe(first.text);
    expect(other.text).not.toBe(first.text);
  });

  it('holds vectors and probabilities of a model against those of test rows', async () => {
    const world = await openTinyWorld({ train: 1, withModel: true });
    const model = join(world.folder, 'base');
    const { measures, vectors, leftOut } = await measured({ model });
    const far = await measured({ model, records: rows(200, 4, { unlike: true }) });
    world.remove();
    expect([vectors, leftOut]).toEqual(['means of the last hidden states of the decoder base', {}]);
    for (const name of ['mauve', 'frechetDistance', 'precision', 'recall', 'perplexity']) {
      const [{ synthetic, ceiling, train: training }, other] = [measures[name]!, far.measures[name]!];
      for (const { value, error } of [synthetic!, ceiling!, training!]) {
        expect([name, value > 0, error > 0]).toEqual([name, true, true]);
      }
      const error = Math.hypot(synthetic!.error, ceiling!.error);
      expect([name, Math.abs(synthetic!.value - ceiling!.value) < 5 * error]).toEqual([name, true]);
      if (name === 'mauve') expect(other.synthetic!.value).toBeLessThan(synthetic!.value);
      if (name === 'frechetDistance') expect(other.synthetic!.value).toBeGreaterThan(5 * synthetic!.value);
    }
  }, 300_000);

  it('counts repeated rows, exact and near', async () => {
    const records = rows(120, 5).map((row, index) => (index < 60 ? row : rows(120, 5)[index - 60]!));
    const { metrics } = await measured({ records });
    expect(metrics).toMatchObject({ duplicates: 0.5, nearDuplicates: 0.5, duplicatesCeiling: 0 });
  });

  it('says what it left out, for want of training rows and of classes in common', async () => {
    const { measures, leftOut } = await measured({ real: 'test-only' });
    const missing = ['labelDistance', 'labelFidelity', 'nearTrainCopies', 'trainCopies'];
    expect(Object.keys(leftOut)).toEqual(expect.arrayContaining(missing));
    for (const name of Object.keys(leftOut)) expect(measures).not.toHaveProperty(name);
    expect(measures['selfBleu']).not.toHaveProperty('train');
    expect((await measured({ labels: ['cold', 'mild', 'warm'] })).leftOut).toHaveProperty('labelDistance');
  });

  it('refuses private records without a waiver, and sets that are too small', async () => {
    await expect(measured({ real: 'secret' })).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
    expect((await measured({ real: 'secret', waivers: ['measures'] })).metrics).toHaveProperty('selfBleu');
    await expect(measured({ real: 'few' })).rejects.toMatchObject({ code: 'STEP_FAILED' });
  });
});
