import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { openStore } from '../../store/index.ts';
import { readRun } from '../../tracking/runs.ts';
import { epsilonflowJson } from '../orchestration/tiny-experiment.ts';
import { worldOfTests } from '../orchestration/world-of-tests.ts';

const world = worldOfTests();

interface Outcome {
  status: string;
  directory: string;
  counts: Record<string, number>;
  links: { report: string | null };
}

const spec = (name: string, data: string, sensitivity: string, extra = ''): string => `version: 1
name: ${name}
datasets:
  ${data}:
    files: { train: ${data}.jsonl, test: ${data}-test.jsonl }
    label: { column: label, values: [cold, warm] }
    sensitivity: ${sensitivity}
    privacy: { size: 300, budget: { epsilon: 20 } }
  corpus:
    files: { train: corpus.jsonl }
    sensitivity: public
steps:
  clean:
    uses: decontaminate
    with: { corpus: corpus, against: [${data}], runLength: 5 }
  base:
    uses: pretrain
    with:
      corpus: "\${{ steps.clean }}"
      architecture: { dim: 16, layers: 1, heads: 2, kvHeads: 2, hidden: 24, context: 32 }
      vocabulary: 300
      tokens: 1024
      batch: 4
      sequence: 16
${extra}`;

const jsonLines = (rows: object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

/** Writes records, and a corpus with one of the test records in it. */
function writeTexts(data: string): { leaked: string; kept: string } {
  const records = (split: string): object[] =>
    Array.from({ length: 60 }, (_, row) => ({
      ...{ text: `${data} ${split} number ${row} saw the garden gate`, label: row % 2 ? 'cold' : 'warm' },
    }));
  world().write(`${data}.jsonl`, jsonLines(records('train')));
  world().write(`${data}-test.jsonl`, jsonLines(records('test')));
  const leaked = `${data} test number 7 saw the garden gate`;
  const rows = Array.from({ length: 200 }, (_, row) => `a public sentence about day ${row} of no year at all`);
  const texts = [...rows, `It was said: ${leaked.toUpperCase()}. And then it was over.`];
  world().write('corpus.jsonl', jsonLines(texts.map((text) => ({ text }))));
  return { leaked, kept: 'It was said:' };
}

async function folderOf({ directory }: Outcome, step: string): Promise<string> {
  const store = openStore();
  const { nodes } = await store.loadPlan(readRun(directory).planDigest);
  const node = nodes.find((each) => each.step === step)!;
  return (await store.lookup(node.key))!.directory;
}

it('takes a passage of a benchmark out of a corpus, and pre-trains on the rest', async () => {
  const { leaked, kept } = writeTexts('weather');
  const file = world().write('clean.yaml', spec('clean', 'weather', 'benchmark'));
  const outcome = await epsilonflowJson<Outcome>(world(), 'run', file);
  expect(outcome).toMatchObject({ code: 0, status: 'completed', counts: { completed: 2 } });
  const folder = await folderOf(outcome, 'clean');
  const documents = readFileSync(join(folder, 'documents.jsonl'), 'utf8');
  expect(documents).toContain(JSON.stringify({ text: kept }));
  expect(documents.toLowerCase()).not.toContain(leaked);
  expect(readFileSync(join(folder, 'overlaps.jsonl'), 'utf8')).toContain(leaked.toUpperCase());
  const report = readFileSync(outcome.links.report!, 'utf8');
  expect(report).toContain('Overlap with corpora');
  expect(report).toContain('1 of the 201 texts of corpus');
  const card = readFileSync(join(await folderOf(outcome, 'base'), 'README.md'), 'utf8');
  expect(card).toContain('in common with `weather` were taken out');
  expect(card).not.toContain('nothing in it derives from private data');
}, 300_000);

it('keeps what private records decide in the private store, and tells of counts alone', async () => {
  const { leaked } = writeTexts('people');
  const waive = 'waive: [{ name: decontamination, reason: cleared by the board }]\n';
  const file = world().write('shut.yaml', spec('shut', 'people', 'private', waive));
  const outcome = await epsilonflowJson<Outcome>(world(), 'run', file);
  expect(outcome).toMatchObject({ code: 0, status: 'completed', counts: { completed: 2 } });
  const folder = await folderOf(outcome, 'clean');
  expect(folder).toContain('private');
  const report = readFileSync(outcome.links.report!, 'utf8');
  expect(report).toContain('1 of the 201 texts of corpus');
  expect(report).toContain('decontamination (“cleared by the board”)');
  expect(report.toLowerCase()).not.toContain(leaked);
  expect(existsSync(join(folder, 'overlaps.jsonl'))).toBe(true);
}, 300_000);
