import { afterAll, describe, expect, it } from 'vitest';

import type { PlanNode } from '../../schemas/plan.ts';
import { openWorkspace, planText, preamble } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const spec = (parameters: string, matrix = ''): string => `${preamble}${matrix && `matrix: ${matrix}\n`}steps:
  classifier:
    uses: train-classifier
    with: { train: reviews, test: other, epsilon: 8${parameters && `, ${parameters}`} }
`;
const nodes = async (parameters: string, matrix?: string): Promise<PlanNode[]> =>
  (await workspace.plan(spec(parameters, matrix))).nodes;
const paramsOf = async (parameters: string): Promise<unknown> => (await nodes(parameters))[0]!.params;

const dp = { steps: 60, batch: 2048, clip: 1 };

describe('the family of a classifier', () => {
  it('fills in its own defaults', async () => {
    expect(await paramsOf('')).toEqual(await paramsOf('family: word-cnn'));
    expect(await paramsOf('')).toMatchObject({
      family: 'word-cnn',
      lr: 0.001,
      filters: 64,
      dp: { ...dp, filters: 32 },
    });
    expect(await paramsOf('family: linear')).toEqual({
      ...{ family: 'linear', epsilon: 8, buckets: 65536, words: 256, ngrams: 2, lr: 0.01, batch: 64, epochs: 10 },
      ...{ dp: { ...dp, clip: 0.5, buckets: 65536, lr: 0.3 }, checkpoint: { steps: 10, seconds: 60 }, seed: 1 },
    });
    expect(await paramsOf('family: transformer, model: base')).toEqual({
      ...{ family: 'transformer', epsilon: 8, pooling: 'mean', sequence: 64, memory: '4GiB', batch: 64, epochs: 3 },
      method: { kind: 'lora', rank: 8, alpha: 16, targets: ['q', 'k', 'v', 'o', 'gate', 'up', 'down'], lr: 0.005 },
      ...{ dp, checkpoint: { steps: 10, seconds: 60 }, seed: 1 },
    });
  });

  it('says in which arithmetic a mechanism is', async () => {
    const arithmeticOf = async (parameters: string): Promise<unknown> => {
      const [node] = await nodes(parameters);
      return (node!.privacy!.mechanism as { arithmetic?: string }).arithmetic;
    };
    expect(await arithmeticOf('family: linear')).toBe('exact');
    expect(await arithmeticOf('family: transformer, model: base')).toBe('exact');
    expect(await arithmeticOf('family: transformer, model: base, method: { kind: full }')).toBe('float');
  });

  it('may be an axis: each instance takes the keys, inputs and defaults of its own', async () => {
    const matrix = '{ family: [word-cnn, linear, transformer] }';
    const plan = await workspace.plan(
      spec('family: "${{ matrix.family }}", model: base, filters: 16, ngrams: 3, batch: 32, dp: { steps: 20 }', matrix),
    );
    expect(
      planText(plan)
        .split('\n')
        .map((line) => line.replace(/ !!.*/, '')),
    ).toEqual([
      'classifier[family=word-cnn] (non-private) <- train: reviews; test: other',
      'classifier[family=linear] (non-private) <- train: reviews; test: other',
      'classifier[family=transformer] (non-private) <- train: reviews; test: other; model: base',
    ]);
    const [cnn, linear, transformer] = plan.nodes.map(({ params }) => params as object);
    expect(cnn).toMatchObject({ filters: 16, batch: 32, dp: { steps: 20, filters: 32 } });
    expect(linear).toMatchObject({ ngrams: 3, batch: 32, dp: { ...dp, steps: 20, clip: 0.5, lr: 0.3 } });
    expect(transformer).toMatchObject({ batch: 32, dp: { ...dp, steps: 20 } });
    expect(Object.keys({ ...linear, ...transformer })).not.toContain('filters');
    expect(Object.keys({ ...cnn, ...transformer })).not.toContain('ngrams');
    // What another family is given changes no content key.
    const [other] = await nodes(
      'family: "${{ matrix.family }}", model: base, filters: 16, ngrams: 2, batch: 32, dp: { steps: 20 }',
      matrix,
    );
    expect(other!.key).toBe(plan.nodes[0]!.key);
  });

  it('says what a key or an input is missing or in the wrong place', async () => {
    const faults = async (parameters: string, matrix?: string): Promise<string[]> =>
      (await workspace.faults(spec(parameters, matrix))).map((fault) => fault.replace(/^\S+ /, ''));
    expect(await faults('family: linear, filters: 3')).toEqual(['SPEC_UNKNOWN_KEY Unknown key "filters" in "with"']);
    expect(await faults('ngrams: 3')).toEqual(['SPEC_UNKNOWN_KEY Unknown key "ngrams" in "with"']);
    expect(await faults('model: base')).toEqual(['SPEC_UNKNOWN_KEY Unknown key "model" in "with"']);
    expect(await faults('family: transformer')).toEqual([
      'SPEC_MISSING_KEY "model" is needed: classifier trains a transformer',
    ]);
    expect(await faults('family: linnear')).toEqual(['SPEC_SCHEMA "family" can\'t be "linnear"']);
    expect(await faults('family: linear, ngrams: 9')).toEqual([
      expect.stringMatching(/^SPEC_SCHEMA "ngrams" must be <= 5/) as string,
    ]);
    expect(await faults('family: linear, dp: { filters: 3 }')).toEqual([
      'SPEC_UNKNOWN_KEY Unknown key "filters" in "dp"',
    ]);
    expect(await faults('family: "${{ matrix.family }}"', '{ family: [linear, transformer] }')).toEqual([
      'SPEC_MISSING_KEY "model" is needed: classifier trains a transformer',
    ]);
    expect(await faults('family: "${{ matrix.family }}", filtres: 3', '{ family: [linear, word-cnn] }')).toEqual([
      expect.stringMatching(/^SPEC_UNKNOWN_KEY Unknown key "filtres"/) as string,
    ]);
    const without = spec('').replace('train: reviews, ', '');
    expect(await workspace.faults(without)).toEqual([
      expect.stringMatching(/SPEC_MISSING_KEY "with" lacks the key "train"$/) as string,
    ]);
  });

  it('takes a pre-training step as its model, whose origin its label tells', async () => {
    const plan =
      await workspace.plan(`${preamble.replace('models:', '  corpus: { files: { train: corpus.jsonl }, sensitivity: public }\nmodels:')}steps:
  base: { uses: pretrain, with: { corpus: corpus } }
  classifier:
    uses: train-classifier
    with: { family: transformer, model: "\${{ steps.base }}", train: reviews, test: other, epsilon: 8 }
`);
    expect(planText(plan)).toContain('classifier (non-private) <- model: base; train: reviews; test: other');
  });
});
