/** @file A small experiment of every step kind on private records that hold strings which must never be seen again. */

import { openTinyWorld, type TinyWorld } from '../orchestration/tiny-experiment.ts';

/** In every private text that holds a marker: nothing that is made from other text says it. */
export const stem = 'zqxjvwk';

const marker = (split: string, row: number): string => `${stem}${split}${String(row).padStart(4, '0')}`;

/** What is planted in records, label cells and rows that cannot be read. */
export const secrets = [stem, 'qqzlabelxjv', 'qqzbrokenxjv'] as const;

const words = ['ice', 'snow', 'frost', 'winter', 'north', 'glove'].map((cold, i) => ({
  cold,
  warm: ['sun', 'sand', 'heat', 'summer', 'south', 'beach'][i]!,
}));

const labelOf = (row: number): 'cold' | 'warm' => (row % 2 === 0 ? 'cold' : 'warm');

/** Distinct texts, so that no record is in both splits; every third holds a marker. */
function text(split: string, row: number): string {
  const label = labelOf(row);
  const said = [0, 1, 2, 3].map((place) => words[(row * (place + 3) + place) % words.length]![label]);
  return [...said, row % 3 === 0 ? marker(split, row) : `${split} number ${row}`].join(' ');
}

export interface PrivateRows {
  train: number;
  test: number;
}

/** Writes the data; some rows are unreadable, or have a label that the spec does not know. */
export function writePrivateData(world: TinyWorld, { train, test }: PrivateRows, extra: string[] = []): void {
  const csv = Array.from({ length: train }, (_, row) => `"${text('train', row)}",${labelOf(row)}`);
  csv[5] = `"${text('train', 5)}",qqzlabelxjv`;
  csv[7] = `"${text('train', 7)}",cold,qqzbrokenxjv,one cell too many`;
  world.write('people.csv', ['text,label', ...csv, ...extra, ''].join('\n'));
  const json = Array.from({ length: test }, (_, row) =>
    JSON.stringify({ text: text('test', row), label: labelOf(row) }),
  );
  json[4] = `{"text": "${text('test', 4)} qqzbrokenxjv`;
  json[8] = JSON.stringify({ text: text('test', 8), label: 'qqzlabelxjv' });
  world.write('people-test.jsonl', json.join('\n') + '\n');
}

/** Servers of its own, the tracker too. */
export async function openPrivateWorld(rows: PrivateRows): Promise<TinyWorld> {
  const world = await openTinyWorld({ train: 1, withModel: false });
  const open = Array.from({ length: 400 }, (_, row) =>
    JSON.stringify({ text: `${words[row % 6]!.cold} and ${words[(row * 5) % 6]!.warm} of day ${row}` }),
  );
  world.write('open.jsonl', open.join('\n') + '\n');
  writePrivateData(world, rows);
  for (const environment of [process.env, world.environment]) delete environment['MLFLOW_TRACKING_URI'];
  return world;
}

export interface SpecOptions {
  name: string;
  seed?: number;
  /** Steps of the generator. */
  steps?: number;
  /** Longer than the base model's context: the step throws. */
  broken?: boolean;
  /** Whether the generator writes a set, which a classifier learns from. */
  synthetic?: boolean;
  /** Whether the set is measured against the private records, under a waiver. */
  measured?: boolean;
}

export const specOf = ({
  name,
  seed = 1,
  steps = 6,
  broken = false,
  synthetic = true,
  measured = false,
}: SpecOptions): string => `
version: 1
name: ${name}
failure: continue
datasets:
  people:
    files: { train: people.csv, test: people-test.jsonl }
    text: text
    label: { column: label, values: [cold, warm] }
    sensitivity: private
    privacy: { unit: record, size: 200, budget: { epsilon: 1000 } }
  open:
    files: { train: open.jsonl }
    text: text
    sensitivity: public
steps:
  base:
    uses: pretrain
    with:
      corpus: open
      architecture: { dim: 32, layers: 1, heads: 2, kvHeads: 2, hidden: 48, context: 64 }
      vocabulary: 300
      tokens: 4096
      batch: 8
      sequence: 32
      seed: 1
  generator:
    uses: finetune
    with:
      model: "\${{ steps.base }}"
      data: people
      epsilon: 8
      method: { kind: lora, rank: 2, alpha: 4, lr: 1e-2 }
      conditioning: class-bias
      steps: ${steps}
      batch: 60
      clip: 0.5
      sequence: 32
      seed: ${seed}
${
  broken
    ? `  broken:
    uses: finetune
    with: { model: "\${{ steps.base }}", data: people, epsilon: 8, steps: 6, batch: 60, sequence: 96, seed: ${seed} }
`
    : ''
}${
  synthetic
    ? `  synthetic:
    uses: generate
    with: { generator: "\${{ steps.generator }}", count: 40, maxTokens: 12, temperature: 1, seed: ${seed} }
  on-synthetic:
    uses: train-classifier
    with: { train: "\${{ steps.synthetic }}", test: people, epochs: 1, seed: ${seed} }
`
    : ''
}${
  measured
    ? `  nearness:
    uses: measure
    with: { synthetic: "\${{ steps.synthetic }}", real: people, resamples: 5 }
`
    : ''
}  on-real:
    uses: train-classifier
    needs: [generator]
    with:
      train: people
      test: people
      epsilon: 8
      release: { epsilon: 0.5 }
      dp: { steps: 6, batch: 60, buckets: 200, embedding: 8, filters: 8 }
      seed: ${seed}
  comparison:
    uses: compare
    with: { arms: { real: "\${{ steps.on-real }}"${synthetic ? ', synthetic: "${{ steps.on-synthetic }}"' : ''} }, over: [] }
${measured ? 'waive: [{ name: measures, reason: a test of what leaves }]\n' : ''}`;
