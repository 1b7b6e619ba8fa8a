import { afterEach, beforeEach, expect, it } from 'vitest';

import { describeInstance, describeParent } from '../../tracking/publish/describe.ts';
import { collectResults } from '../../tracking/results.ts';
import { makeUpRun, ownState } from './made-up-run.ts';

let removeState: () => void;
beforeEach(() => {
  removeState = ownState();
});
afterEach(() => removeState());

it.each([
  ['private', false],
  ['benchmark', true],
] as const)('the plan that a tracker gets tells where data lie: of %s data %s', async (sensitivity, told) => {
  const { record, directory, plan, store } = await makeUpRun({ seeds: [1], epsilons: [8], sensitivity });
  const shown = describeParent(record, await collectResults(directory, plan, store), directory);
  const file = JSON.stringify(shown.artifacts.find(({ path }) => path === 'plan.json'));
  const content = Buffer.from((JSON.parse(file) as { content: { data: number[] } }).content.data).toString();
  expect(JSON.parse(content)).toMatchObject({ digest: plan.digest });
  const [data] = Object.values(plan.datasets);
  expect(data!.sensitivity).toBe(sensitivity);
  expect(content.includes(data!.files.train!.path)).toBe(told);
});

it('names all splits that a corpus was decontaminated against', async () => {
  const { record, directory, plan, store } = await makeUpRun({ seeds: [1], epsilons: [8] });
  const results = await collectResults(directory, plan, store);
  const [dataset] = Object.values(plan.datasets);
  const { train, test } = dataset!.files;
  const against = (files: NonNullable<typeof dataset>['files']): string[] => {
    const read = { ...results, plan: { ...plan, datasets: { [dataset!.name]: { ...dataset!, files } } } };
    const node = { ...plan.nodes[0]!, inputs: { 'against.0': { dataset: dataset!.name } } };
    return describeInstance(record, read, node)!.inputs.map(({ name, context }) => `${name} ${context}`);
  };
  const named = (split: string, context: string): string => `${dataset!.name}/${split} ${context}`;
  expect(against({ validation: train!, test: test! })).toEqual([
    named('validation', 'validation'),
    named('test', 'testing'),
  ]);
  expect(against({ train: train! })).toEqual([named('train', 'training')]);
});
