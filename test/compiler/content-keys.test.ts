import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeEach, expect, describe, it } from 'vitest';

import { offlineHost } from '../../cli/compile-host.ts';
import { compileSpec } from '../../compiler/index.ts';
import { openWorkspace, preamble, type Workspace } from './workspace.ts';

let workspace: Workspace;
const opened: Workspace[] = [];
beforeEach(() => {
  workspace = openWorkspace();
  opened.push(workspace);
});
afterAll(() => {
  for (const each of opened) each.remove();
});

const spec = `${preamble}
matrix: { epsilon: [8], seed: [1, 2] }
steps:
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: "\${{ matrix.epsilon }}", seed: "\${{ matrix.seed }}" }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: 50 } }
`;

/** Content keys in order; names of instances are left out on purpose. */
const keys = async (text: string): Promise<string[]> => (await workspace.plan(text)).nodes.map(({ key }) => key);

describe('content keys stay the same', () => {
  const harmless: [string, (text: string) => string][] = [
    ['under comments and blank lines', (text) => `# a note\n\n${text.replace('steps:', 'steps: # here\n')}`],
    [
      'under another order of keys',
      (text) => text.replace('{ model: base, data: reviews,', '{ data: reviews, model: base,'),
    ],
    [
      'when a step is renamed',
      (text) => text.replaceAll('generator:\n', 'tuned:\n').replace('steps.generator', 'steps.tuned'),
    ],
    [
      'when an axis is renamed',
      (text) => text.replaceAll('seed: [', 'draw: [').replaceAll('matrix.seed', 'matrix.draw'),
    ],
    [
      'when a dataset or a model is renamed',
      (text) => text.replaceAll('reviews', 'opinions').replaceAll('base', 'start'),
    ],
    [
      'when a default is written out',
      (text) => text.replace('count: 50', 'count: 50, temperature: 0.8, maxTokens: 48'),
    ],
    [
      'when training may take another amount of memory',
      (text) => text.replace('data: reviews,', 'data: reviews, memory: 2GiB,'),
    ],
    [
      'when checkpoints are written more often',
      (text) => text.replace('data: reviews,', 'data: reviews, checkpoint: { steps: 1 },'),
    ],
    ['when numbers are written otherwise', (text) => text.replace('epsilon: [8]', 'epsilon: [8.0]')],
    ['when a step needs approval', (text) => text.replace('uses: finetune', 'uses: finetune\n    approval: required')],
    ['when a soft budget is stated', (text) => text.replace('{ size: 20000 }', '{ size: 20000, soft-budget: 9 }')],
    ['when a budget is stated', (text) => text.replace('{ size: 20000 }', '{ size: 20000, budget: { epsilon: 99 } }')],
  ];
  it.each(harmless)('%s', async (_what, change) => {
    const changed = change(spec);
    expect(changed).not.toBe(spec);
    expect(await keys(changed)).toEqual(await keys(spec));
  });

  it('when spec and data move to another folder', async () => {
    const before = await keys(spec);
    mkdirSync(join(workspace.folder, 'elsewhere'));
    for (const name of ['spec.yaml', 'train.jsonl', 'test.jsonl', 'model']) {
      renameSync(join(workspace.folder, name), join(workspace.folder, 'elsewhere', name));
    }
    const plan = await compileSpec({ file: join(workspace.folder, 'elsewhere', 'spec.yaml') }, offlineHost());
    expect(plan.nodes.map(({ key }) => key)).toEqual(before);
  });

  it('when the data come in another format', async () => {
    const before = await keys(spec);
    workspace.write('train.csv', 'label,text\nneg,one\npos,two\nneg,three\npos,four\n');
    expect(await keys(spec.replace('train: train.jsonl', 'train: train.csv'))).toEqual(before);
  });
});

describe('content keys change', () => {
  const changes: [string, (text: string) => string][] = [
    ['with a parameter', (text) => text.replace('data: reviews,', 'data: reviews, steps: 51,')],
    [
      'with a nested parameter',
      (text) => text.replace('data: reviews,', 'data: reviews, method: { kind: lora, rank: 9 },'),
    ],
    ['with epsilon', (text) => text.replace('epsilon: [8]', 'epsilon: [8.5]')],
    ['with the declared size', (text) => text.replace('size: 20000', 'size: 20001')],
    ['with delta', (text) => text.replace('{ size: 20000 }', '{ size: 20000, delta: 1e-6 }')],
    ['with the order of the classes', (text) => text.replaceAll('[neg, pos]', '[pos, neg]')],
  ];
  it.each(changes)('%s', async (_what, change) => {
    const before = await keys(spec);
    const after = await keys(change(spec));
    expect(after).toHaveLength(before.length);
    for (const [index, key] of after.entries()) expect(key).not.toBe(before[index]);
  });

  it('with the seed, and for generation with that of its generator', async () => {
    expect(new Set(await keys(spec)).size).toBe(4);
  });

  it('with a single record, and all that depends on it', async () => {
    const before = await keys(spec);
    workspace.write('train.jsonl', '{"text":"one!","label":"neg"}\n{"text":"two","label":"pos"}\n');
    for (const [index, key] of (await keys(spec)).entries()) expect(key).not.toBe(before[index]);
  });

  it('with the weights of the base model', async () => {
    const before = await keys(spec);
    workspace.write('model/model.safetensors', 'other weights');
    for (const [index, key] of (await keys(spec)).entries()) expect(key).not.toBe(before[index]);
  });

  it('only downstream of what changed', async () => {
    const before = await keys(spec);
    const after = await keys(spec.replace('count: 50', 'count: 51'));
    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
    expect(after[2]).not.toBe(before[2]);
  });
});

describe('the digest of a plan', () => {
  it('is the same from every working directory and changes with the spec', async () => {
    const first = await workspace.plan(spec);
    const cwd = process.cwd();
    process.chdir(workspace.folder);
    try {
      expect((await compileSpec({ file: 'spec.yaml' }, offlineHost())).digest).toBe(first.digest);
    } finally {
      process.chdir(cwd);
    }
    expect((await workspace.plan(spec.replace('count: 50', 'count: 51'))).digest).not.toBe(first.digest);
  });
});
