import { cpSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { offlineHost } from '../../cli/compile-host.ts';
import { compile, type Compiled, missesOf, missText } from '../../compiler/index.ts';
import { kinds } from '../../compiler/kinds.ts';
import type { Plan } from '../../schemas/plan.ts';
import { openWorkspace, preamble, type Workspace } from './workspace.ts';

let workspace: Workspace;
beforeEach(() => {
  workspace = openWorkspace();
  workspace.write('other.jsonl', rows('six', 'seven'));
});
afterEach(() => workspace.remove());

const steps = `steps:
  tuned:
    uses: finetune
    with:
      model: base
      data: reviews
      epsilon: 8
      seed: "\${{ matrix.seed }}"
      method: { kind: lora, rank: 8, alpha: 16, targets: [q, v], lr: 1e-3 }
  made:
    uses: generate
    with: { generator: "\${{ steps.tuned }}", count: 50 }
  judged:
    uses: train-classifier
    with: { train: "\${{ steps.made }}", test: reviews }
  direct:
    uses: train-classifier
    with: { train: other, test: other, epsilon: 2, dp: { steps: 40 } }
`;
const apart = preamble.replace(/(other:\s+files: \{ train: )train/, '$1other');
const spec = `${apart}matrix: { seed: [1] }\n${steps}`;

/** Earlier results are those of the plan `before`, all of them. */
async function said(before: Plan, { plan, placeOf }: Compiled): Promise<Record<string, string>> {
  const there = new Set(before.nodes.map(({ key }) => key));
  for (const node of plan.nodes) node.cached = there.has(node.key);
  const misses = await missesOf(plan, [before], (key) => Promise.resolve(there.has(key)), placeOf);
  return Object.fromEntries([...misses].map(([id, miss]) => [id.replace('[seed=1]', ''), missText(miss)]));
}

type Change = string | ((workspace: Workspace) => void);

/** What is changed, in the spec (`from => to`) or in its files; the step that must miss; what is said of it. */
const mutations: [Change, string, string][] = [
  ['rank: 8 => rank: 9', 'tuned', 'method.rank: 8 -> 9 at line LINE'],
  ['alpha: 16 => alpha: 17', 'tuned', 'method.alpha: 16 -> 17 at line LINE'],
  ['[q, v] => [q, k]', 'tuned', 'method.targets: ["q","v"] -> ["q","k"] at line LINE'],
  ['[q, v] => [v, q]', 'tuned', 'method.targets: ["q","v"] -> ["v","q"] at line LINE'],
  ['lr: 1e-3 => lr: 3e-3', 'tuned', 'method.lr: 0.001 -> 0.003 at line LINE'],
  ['epsilon: 8 => epsilon: 7.5', 'tuned', 'epsilon: 8 -> 7.5 at line LINE'],
  ['epsilon: 8 => epsilon: .inf', 'tuned', 'epsilon: 8 -> inf at line LINE'],
  ['seed: [1] => seed: [2]', 'tuned', 'seed: 1 -> 2 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      steps: 51', 'tuned', 'steps: STEPS -> 51 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      batch: 500', 'tuned', 'batch: 1024 -> 500 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      clip: 0.7', 'tuned', 'clip: CLIP -> 0.7 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      warmup: 3', 'tuned', 'warmup: WARMUP -> 3 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      finalLr: 0.3', 'tuned', 'finalLr: FINAL -> 0.3 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      sequence: 33', 'tuned', 'sequence: SEQUENCE -> 33 at line LINE'],
  ['epsilon: 8 => epsilon: 8\n      conditioning: prefix', 'tuned', 'conditioning: class-bias -> prefix at line LINE'],
  ['data: reviews => data: other', 'tuned', 'data: reviews -> other at line LINE'],
  ['size: 20000 => size: 20001', 'tuned', 'size of reviews: 20000 -> 20001'],
  ['{ size: 20000 } => { size: 20000, delta: 1e-6 }', 'tuned', 'delta of reviews: DELTA -> 0.000001'],
  ['count: 50 => count: 51', 'made', 'count: 50 -> 51 at line LINE'],
  ['count: 50 => count: 50, temperature: 0.9', 'made', 'temperature: 0.8 -> 0.9 at line LINE'],
  ['count: 50 => count: 50, topK: 40', 'made', 'topK: not set -> 40 at line LINE'],
  ['count: 50 => count: 50, topP: 0.5', 'made', 'topP: TOPP -> 0.5 at line LINE'],
  ['count: 50 => count: 50, repetitionPenalty: 1.5', 'made', 'repetitionPenalty: PENALTY -> 1.5 at line LINE'],
  ['count: 50 => count: 50, banned: ["x"]', 'made', 'banned: BANNED -> ["x"] at line LINE'],
  ['count: 50 => count: 50, maxTokens: 49', 'made', 'maxTokens: 48 -> 49 at line LINE'],
  ['count: 50 => count: 50, seed: 9', 'made', 'seed: SEED -> 9 at line LINE'],
  ['test: reviews } => test: reviews, buckets: 999 }', 'judged', 'buckets: BUCKETS -> 999 at line LINE'],
  ['test: reviews } => test: reviews, words: 47 }', 'judged', 'words: WORDS -> 47 at line LINE'],
  ['test: reviews } => test: reviews, embedding: 31 }', 'judged', 'embedding: EMBEDDING -> 31 at line LINE'],
  ['test: reviews } => test: reviews, filters: 31 }', 'judged', 'filters: FILTERS -> 31 at line LINE'],
  ['test: reviews } => test: reviews, widths: [2] }', 'judged', 'widths: WIDTHS -> [2] at line LINE'],
  ['test: reviews } => test: reviews, dropout: 0.11 }', 'judged', 'dropout: DROPOUT -> 0.11 at line LINE'],
  ['test: reviews } => test: reviews, lr: 0.011 }', 'judged', 'lr: LR -> 0.011 at line LINE'],
  ['test: reviews } => test: reviews, batch: 17 }', 'judged', 'batch: BATCH -> 17 at line LINE'],
  ['test: reviews } => test: reviews, epochs: 3 }', 'judged', 'epochs: EPOCHS -> 3 at line LINE'],
  ['test: reviews } => test: reviews, seed: 5 }', 'judged', 'seed: SEED -> 5 at line LINE'],
  ['dp: { steps: 40 } => dp: { steps: 41 }', 'direct', 'dp.steps: 40 -> 41 at line LINE'],
  ['dp: { steps: 40 } => dp: { steps: 40, batch: 100 }', 'direct', 'dp.batch: BATCH -> 100 at line LINE'],
  ['dp: { steps: 40 } => dp: { steps: 40, clip: 0.6 }', 'direct', 'dp.clip: CLIP -> 0.6 at line LINE'],
  ['dp: { steps: 40 } => dp: { steps: 40, lr: 0.6 }', 'direct', 'dp.lr: LR -> 0.6 at line LINE'],
  ['dp: { steps: 40 } => dp: { steps: 40, buckets: 77 }', 'direct', 'dp.buckets: BUCKETS -> 77 at line LINE'],
  ['epsilon: 2, => epsilon: 3,', 'direct', 'epsilon: 2 -> 3 at line LINE'],
  [(on) => on.write('train.jsonl', rows('one', 'two', 'three', 'fourx')), 'tuned', 'data of reviews changed'],
  [(on) => on.write('train.jsonl', rows('two', 'one', 'three', 'four')), 'tuned', 'data of reviews changed'],
  [(on) => on.write('train.jsonl', rows('one', 'two', 'three')), 'tuned', 'data of reviews changed'],
  [(on) => on.write('train.jsonl', rows('One', 'two', 'three', 'four')), 'tuned', 'data of reviews changed'],
  [(on) => on.write('test.jsonl', rows('five', 'sixx')), 'judged', 'data of reviews changed'],
  [(on) => on.write('model/model.safetensors', 'weightz'), 'tuned', 'files of model base changed'],
  [(on) => on.write('model/config.json', '{"hidden_size":9}'), 'tuned', 'files of model base changed'],
  [(on) => on.write('model/tokenizer.json', '{ }'), 'tuned', 'files of model base changed'],
];

function rows(...texts: string[]): string {
  return texts.map((text, index) => `${JSON.stringify({ text, label: index % 2 === 0 ? 'neg' : 'pos' })}\n`).join('');
}

function replaced(change: string): string {
  const [from, to] = change.split(' => ') as [string, string];
  if (!spec.includes(from)) throw new Error(`The spec under test has no ${from}`);
  return spec.replace(from, () => to);
}

/** Line on which the changed text ends. */
function lineOf(change: string): string {
  const [, to] = change.split(' => ') as [string, string];
  const text = replaced(change);
  return String(text.slice(0, text.indexOf(to) + to.length).split('\n').length);
}

/** Figures in capitals are defaults, whatever they are; the schema is where they stand. */
const pattern = (text: string): RegExp =>
  new RegExp(`${text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll(/: [A-Z]+ ->/g, ': .+ ->')}`);

describe('a change is never a false hit, and a miss names it', () => {
  it('in fifty places', () => expect(mutations).toHaveLength(50));

  it.each(mutations)('%s', async (change, step, why) => {
    const before = await workspace.plan(spec);
    if (typeof change !== 'string') change(workspace);
    const after = await workspace.compile(typeof change === 'string' ? replaced(change) : spec);
    const misses = await said(before, after);
    const id = Object.keys(misses).find((name) => name.startsWith(step))!;
    expect(misses[id]).toMatch(pattern(typeof change === 'string' ? why.replace('LINE', lineOf(change)) : why));
    const chain = ['tuned', 'made', 'judged'];
    const from = chain.indexOf(step);
    if (from < 0) return;
    for (const later of chain.slice(from)) {
      expect(Object.keys(misses).some((name) => name.startsWith(later))).toBe(true);
    }
  });

  it('of code', async () => {
    const before = await workspace.plan(spec);
    const version = kinds.finetune.version;
    kinds.finetune.version = version + 1;
    try {
      const misses = await said(before, await workspace.compile(spec));
      expect(misses['tuned']).toBe(`code of finetune: version ${version} -> ${version + 1}`);
      expect(misses['made']).toBe('generator: made anew');
    } finally {
      kinds.finetune.version = version;
    }
  });

  it('of a result that was lost', async () => {
    const before = await workspace.plan(spec);
    const { plan, placeOf } = await workspace.compile(spec);
    for (const node of plan.nodes) node.cached = false;
    const misses = await missesOf(plan, [before], () => Promise.resolve(false), placeOf);
    expect(new Set([...misses.values()].map(missText))).toEqual(new Set(['planned before, and no result is there']));
  });
});

describe('what does not matter is never a false miss', () => {
  const harmless: [string, (text: string) => string][] = [
    ['comments', (text) => `# a note\n${text.replace('steps:', 'steps: # here')}`],
    ['the order of keys', (text) => text.replace('rank: 8, alpha: 16', 'alpha: 16, rank: 8')],
    ['names of steps', (text) => text.replaceAll('tuned', 'shaped').replaceAll('made', 'written')],
    ['the order of steps', (text) => text.replace(/ {2}direct:[^]*$/, '').replace('steps:\n', `steps:\n${direct}`)],
    ['names of datasets and models', (text) => text.replaceAll('reviews', 'opinions').replaceAll('base', 'start')],
  ];
  const direct = steps.slice(steps.indexOf('  direct:'));
  it.each(harmless)('%s', async (_what, change) => {
    expect(change(spec)).not.toBe(spec);
    const before = await workspace.plan(spec);
    expect(await said(before, await workspace.compile(change(spec)))).toEqual({});
  });

  it('where the files lie', async () => {
    const before = await workspace.plan(spec);
    const folder = join(workspace.folder, 'elsewhere');
    mkdirSync(folder);
    for (const name of ['spec.yaml', 'train.jsonl', 'other.jsonl', 'test.jsonl']) {
      renameSync(join(workspace.folder, name), join(folder, name));
    }
    cpSync(join(workspace.folder, 'model'), join(folder, 'model'), { recursive: true });
    expect(await said(before, await compile({ file: join(folder, 'spec.yaml') }, offlineHost()))).toEqual({});
  });
});
