import { afterAll, expect, it } from 'vitest';

import { privacyStatement } from '../../tracking/statement.ts';
import { openWorkspace, planText } from './workspace.ts';

const workspace = openWorkspace();
afterAll(() => workspace.remove());

const spec = (against: string, extra = '', files = '{ train: train.jsonl, test: test.jsonl }'): string => `version: 1
name: clean
datasets:
  corpus: { files: { train: corpus.jsonl }, sensitivity: public }
  open: { files: { train: train.jsonl }, sensitivity: public }
  films:
    files: { train: train.jsonl, test: test.jsonl }
    label: { values: [neg, pos] }
    sensitivity: benchmark
    privacy: { size: 20000 }
  letters:
    files: ${files}
    label: { values: [neg, pos] }
    privacy: { size: 20000, budget: { epsilon: 3 } }
steps:
  clean: { uses: decontaminate, with: { corpus: corpus, against: ${against} } }
  base: { uses: pretrain, with: { corpus: "\${{ steps.clean }}" } }
  generator: { uses: finetune, with: { model: "\${{ steps.base }}", data: films, epsilon: 2 } }
${extra}`;
const waive = 'waive: [{ name: decontamination, reason: cleared by the board }]\n';

it('is public against public data and benchmarks, and what DP training makes of it is DP', async () => {
  for (const against of ['open', '[open, films]']) {
    const plan = await workspace.plan(spec(against));
    expect(plan.nodes.map(({ label }) => label)).toEqual(['public', 'public', 'dp']);
    expect(plan.nodes[0]!.params).toEqual({ mode: 'cut', runLength: 50 });
  }
});

it('reads each dataset of a list, or one', async () => {
  expect(planText(await workspace.plan(spec('[open, films]')))).toContain(
    'clean (public) <- corpus: corpus; against.0: open; against.1: films',
  );
  expect(planText(await workspace.plan(spec('films')))).toContain('clean (public) <- corpus: corpus; against: films');
});

it('takes what an axis names', async () => {
  const plan = await workspace.plan(spec('"${{ matrix.set }}"', 'matrix: { set: [open, films] }\n'));
  expect(plan.nodes.filter(({ kind }) => kind === 'decontaminate').map(({ id }) => id)).toEqual([
    'clean[set=open]',
    'clean[set=films]',
  ]);
});

it('is said to be outside of the guarantee, unless all is public', async () => {
  const said = async (against: string): Promise<string> => {
    const plan = await workspace.plan(spec(against));
    return privacyStatement(plan, plan.nodes[2]!, () => null).notCovered.join('\n');
  };
  expect(await said('[open, films]')).toContain("decontamination of the base model's corpus against films:");
  expect(await said('open')).not.toContain('decontamination');
});

it('refuses private data without a waiver, and says what to do', async () => {
  expect(await workspace.faults(spec('[films, letters]'))).toEqual([
    '16:66 SPEC_PRIVACY A corpus without what is in private dataset "letters" tells of its records, which no epsilon bounds',
  ]);
});

it('is non-private under the waiver, with all that is made of it', async () => {
  const plan = await workspace.plan(spec('[films, letters]', waive));
  expect(plan.nodes.map(({ label, sensitivity, waivers }) => [label, sensitivity, waivers])).toEqual([
    ['non-private', 'private', ['decontamination']],
    ['non-private', 'private', []],
    ['non-private', 'private', []],
  ]);
  expect(plan.waivers).toEqual([{ name: 'decontamination', reason: 'cleared by the board' }]);
  expect(Object.keys(plan.privacy)).toEqual(['films', 'letters', 'letters/test']);
  expect(plan.privacy['letters/test']).toMatchObject({ experiment: 0, unbounded: 0 });
});

const privateFilms = (against: string, steps: string, waivers: readonly string[]): string =>
  spec(against, `${steps}waive: [${waivers.map((name) => `{ name: ${name}, reason: cleared }`).join(', ')}]\n`)
    .replace('sensitivity: benchmark', 'sensitivity: private')
    .replace('privacy: { size: 20000 }', 'privacy: { size: 20000, budget: { epsilon: 9 } }');
const generated = '  synthetic: { uses: generate, with: { generator: "${{ steps.generator }}", count: 10 } }\n';

it('lets no measure of other private records tell of those that it was held against', async () => {
  const measure = (synthetic: string): string =>
    `  nearness: { uses: measure, with: { synthetic: ${synthetic}, real: films, model: "\${{ steps.base }}" } }\n`;
  const waivers = ['decontamination', 'measures'];
  const told = /SPEC_PRIVACY Model base derives from private records by training without DP or decontamination/;
  const released = privateFilms('letters', measure('open'), waivers).replace(
    'open: { files: { train: train.jsonl }',
    'open: { files: { train: train.jsonl }, label: { values: [neg, pos] }',
  );
  expect((await workspace.faults(released)).join('\n')).toMatch(told);
  expect(await workspace.faults(released.replace('against: letters', 'against: open'))).toEqual([]);
  const text = privateFilms('letters', generated + measure('"${{ steps.synthetic }}"'), waivers);
  expect((await workspace.faults(text)).join('\n')).toMatch(/SPEC_PRIVACY The text of synthetic derives from private/);
});

it('lets no exact metrics on other private records tell of those that it was held against', async () => {
  const steps = `${generated}  classifier: { uses: train-classifier, with: { train: "\${{ steps.synthetic }}", test: films } }\n`;
  const exact = privateFilms('letters', steps, ['decontamination', 'test-metrics']);
  expect((await workspace.faults(exact)).join('\n')).toMatch(
    /SPEC_PRIVACY The text of synthetic derives from a corpus decontaminated against private records/,
  );
  expect(await workspace.faults(exact.replace('against: letters', 'against: open'))).toEqual([]);
  // Without DP there is an unbounded entry on the account of the records that they tell of.
  const unbounded = privateFilms('open', steps, ['test-metrics', 'non-private-training']);
  expect(await workspace.faults(unbounded.replace('data: films, epsilon: 2', 'data: films, epsilon: .inf'))).toEqual(
    [],
  );
  const both = privateFilms('letters', steps, ['decontamination', 'test-metrics', 'non-private-training']);
  expect(
    (await workspace.faults(both.replace('data: films, epsilon: 2', 'data: films, epsilon: .inf'))).join('\n'),
  ).toMatch(/derives from a corpus decontaminated/);
  // Noisy counts are charged, and stay inside.
  const counted = await workspace.plan(privateFilms('letters', steps, ['decontamination']));
  expect(counted.nodes.at(-1)).toMatchObject({ label: 'non-private', sensitivity: 'private', waivers: [] });
});

it('asks for a declared size where only test records are there', async () => {
  const files = '{ test: test.jsonl }';
  const counted = spec('letters', waive, files).replace('size: 20000, budget', 'size: counted, budget');
  expect(await workspace.faults(counted)).toEqual([
    '16:66 SPEC_PRIVACY Overlaps of private dataset "letters" need a declared size',
  ]);
});

it('reads two private datasets at most, as workers are found for', async () => {
  const names = ['letters', 'notes', 'mails'];
  const [, declared] = /( {2}letters:\n(?: {4}.*\n)+)/.exec(spec('letters'))!;
  const three = spec(`[${names.join(', ')}]`, waive).replace(
    declared!,
    names.map((name) => declared!.replace('letters', name)).join(''),
  );
  expect((await workspace.faults(three)).join('\n')).toMatch(/A step reads at most two private datasets, not 3$/);
});

it.each([
  [
    '{ corpus: letters, against: open }',
    /SPEC_PRIVACY Decontamination reads public text only; dataset "letters" is private/,
  ],
  ['{ corpus: corpus, against: [] }', /SPEC_SCHEMA/],
  ['{ corpus: corpus, against: [open, opne] }', /SPEC_UNKNOWN_REFERENCE The spec has no dataset "opne"/],
  ['{ corpus: corpus, against: open, mode: mask }', /SPEC_SCHEMA/],
  ['{ corpus: corpus, against: open, runLength: 0 }', /SPEC_SCHEMA/],
  ['{ corpus: corpus }', /SPEC_MISSING_KEY/],
])('refuses %s', async (parameters, expected) => {
  const text = spec('open').replace('{ corpus: corpus, against: open }', parameters);
  expect((await workspace.faults(text)).join('\n')).toMatch(expected);
});
