import { afterAll, describe, expect, it } from 'vitest';

import { costDrivers, type CostDrivers, type PublicSizes } from '../../compiler/index.ts';
import type { StepKind } from '../../schemas/plan.ts';
import { kinds } from '../../compiler/kinds.ts';
import { openWorkspace } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const base = { parameters: 1_000_000, dim: 128, layers: 4 };

const spec = (changes: Record<string, string> = {}): string => {
  const usual = {
    steps: '100',
    count: '1000',
    sensitivity: 'benchmark',
    epsilon: '8',
    epochs: '10',
    train: 'train.jsonl',
  };
  const values = { ...usual, ...changes };
  const text = `version: 1
name: costs
datasets:
  reviews:
    files: { train: TRAIN, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: ${values.sensitivity}
    privacy: { size: 20000, budget: { epsilon: 100 } }
  open:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: public
  corpus: { files: { train: corpus.jsonl }, sensitivity: public }
models:
  base: { path: model }
steps:
  clean: { uses: decontaminate, with: { corpus: corpus, against: open } }
  own-model: { uses: pretrain, with: { corpus: corpus, tokens: 1000000 } }
  generator:
    uses: finetune
    with: { model: base, data: reviews, epsilon: ${values.epsilon}, steps: ${values.steps}, batch: 64 }
  on-own-model:
    uses: finetune
    with: { model: "\${{ steps.own-model }}", data: reviews, epsilon: 8, steps: 100, batch: 64 }
  synthetic: { uses: generate, with: { generator: "\${{ steps.generator }}", count: ${values.count} } }
  on-synthetic:
    uses: train-classifier
    with: { train: "\${{ steps.synthetic }}", test: open, epochs: ${values.epochs} }
  on-open: { uses: train-classifier, with: { train: open, test: open, epochs: ${values.epochs} } }
  on-real: { uses: train-classifier, with: { train: reviews, test: reviews, epsilon: 8, dp: { steps: 50, batch: 64 } } }
  nearness: { uses: measure, with: { synthetic: "\${{ steps.synthetic }}", real: open } }
  audited: { uses: audit, with: { synthetic: "\${{ steps.synthetic }}" } }
  comparison:
    uses: compare
    with: { arms: { synthetic: "\${{ steps.on-synthetic }}", open: "\${{ steps.on-open }}" }, over: [] }
${values.sensitivity === 'private' ? 'waive: [{ name: measures, reason: an audit is costed }]\n' : ''}`;
  return text.replace('TRAIN', values.train);
};

async function driversOf(changes?: Record<string, string>, models: PublicSizes['models'] = new Map([['base', base]])) {
  const { plan, records } = await workspace.compile(spec(changes));
  return (step: string): CostDrivers => costDrivers(plan, { records, models }).get(step)!;
}

describe('what an instance costs', () => {
  it('is known to grow with something for every kind of step', async () => {
    const { plan, records } = await workspace.compile(spec());
    const drivers = costDrivers(plan, { records, models: new Map([['base', base]]) });
    expect(new Set(plan.nodes.map(({ kind }) => kind))).toEqual(new Set(Object.keys(kinds) as StepKind[]));
    for (const { id } of plan.nodes) {
      expect(drivers.get(id), id).toEqual({
        group: expect.any(String) as string,
        work: expect.any(Number) as number,
        volume: expect.any(Number) as number,
      });
      expect(drivers.get(id)!.work, id).toBeGreaterThan(0);
      expect(drivers.get(id)!.volume, id).toBeGreaterThan(0);
    }
  });

  it.each<[string, string, Record<string, string>, number]>([
    ['training with its steps', 'generator', { steps: '300' }, 3],
    ['generation with the number of texts', 'synthetic', { count: '5000' }, 5],
    ['a classifier with its passes', 'on-open', { epochs: '20' }, 2],
    ['a classifier with what it learns from', 'on-synthetic', { count: '4000' }, 4],
  ])('grows for %s', async (_, step, changes, factor) => {
    const [few, many] = [await driversOf(), await driversOf(changes)];
    expect(many(step).work / few(step).work).toBeCloseTo(factor, 9);
    expect(many(step).group).toBe(few(step).group);
  });

  it('grows with the size of the model; without a known size only runs of the same model are compared', async () => {
    const small = await driversOf();
    const large = await driversOf({}, new Map([['base', { ...base, parameters: 3_000_000 }]]));
    expect(large('generator').work / small('generator').work).toBeCloseTo(3, 9);
    const unknown = await driversOf({}, new Map([['base', null]]));
    expect(unknown('generator').group).toMatch(/^finetune lora with DP of [0-9a-f]{12}$/);
    expect(unknown('on-own-model').group).toBe('finetune lora with DP');
  });

  it('is not compared across what computes otherwise', async () => {
    const drivers = await driversOf();
    expect(drivers('on-real').group).toBe('train-classifier with DP');
    expect(drivers('on-open').group).toBe('train-classifier');
    expect((await driversOf({ epsilon: '.inf' }))('generator').group).toBe('finetune lora');
  });

  it('rests on the declared size of private data, whatever the files hold', async () => {
    const rows = Array.from({ length: 5000 }, (_, row) => JSON.stringify({ text: `${row}`, label: 'neg' }));
    workspace.write('longer.jsonl', `${rows.join('\n')}\n`);
    const privately = { sensitivity: 'private' };
    const [short, long] = [await driversOf(privately), await driversOf({ ...privately, train: 'longer.jsonl' })];
    for (const step of ['generator', 'synthetic', 'on-synthetic', 'on-real']) expect(long(step)).toEqual(short(step));
    const { records } = await workspace.compile(spec({ ...privately, train: 'longer.jsonl' }));
    expect(Object.fromEntries(records)).toEqual({ reviews: 20_000, open: 4, corpus: 1 });
  });
});
