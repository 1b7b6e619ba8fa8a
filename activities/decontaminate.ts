/**
 * @file Step kind `decontaminate`: takes out of a public corpus what it has in common with datasets, so that a base
 * model can't have seen their records. What is taken out depends on those records: see the label rule in the compiler.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { jsonLines, splits, writeDecontaminated, type Decontamination, type Split } from '../datasets/index.ts';
import { commonRuns, cutText, spansOf, type CommonRuns, type Span } from '../measures/overlap/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import type { DecontaminateParams } from '../schemas/step-params.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';

type Input = JobInput<'decontaminate'>;

/** Texts of one split, at their place among all references. */
interface ReferenceSplit {
  dataset: string;
  split: Split;
  first: number;
  count: number;
}

interface References {
  texts: string[];
  parts: ReferenceSplit[];
}

function datasetOf({ node, datasets }: Input, role: string): PlanDataset {
  const input = node.inputs[role];
  const dataset = input && 'dataset' in input ? datasets[input.dataset] : undefined;
  if (dataset !== undefined) return dataset;
  throw new EpsilonflowError('STEP_FAILED', `Step ${node.id} has no input dataset "${role}".`);
}

/** What private records have in common with the corpus is found under the waiver alone, whatever called this step. */
function checkWaiver({ node }: Input, { sensitivity }: PlanDataset): void {
  if (sensitivity !== 'private' || node.waivers.includes('decontamination')) return;
  throw new EpsilonflowError(
    'MECHANISM_MISMATCH',
    `${node.id} has no waiver to decontaminate against private records.`,
  );
}

async function readReferences(input: Input, context: JobContext): Promise<References> {
  const references: References = { texts: [], parts: [] };
  for (const role of Object.keys(input.node.inputs).filter((name) => name.startsWith('against'))) {
    const dataset = datasetOf(input, role);
    checkWaiver(input, dataset);
    const records = await readInput(input, dataset);
    for (const split of splits) {
      const texts = (records[split] ?? []).map(({ text }) => text);
      if (records[split] === undefined) continue;
      references.parts.push({ dataset: dataset.name, split, first: references.texts.length, count: texts.length });
      references.texts = references.texts.concat(texts);
    }
    await context.breathe();
  }
  return references;
}

/** Which record of which split a text is, counted from 1. */
function recordAt({ parts }: References, index: number): { dataset: string; split: Split; record: number } {
  const { dataset, split, first } = parts.findLast((part) => part.first <= index && part.count > 0)!;
  return { dataset, split, record: index - first + 1 };
}

function overlapOf({ parts }: References, runs: CommonRuns): Decontamination['against'] {
  const found = parts.map(({ dataset, split, count }) => ({
    dataset,
    split,
    records: count,
    overlapping: 0,
    tokens: 0,
  }));
  let part = 0;
  let last = -1;
  for (const { text, from, to } of spansOf(runs.inReferences())) {
    while (text >= parts[part]!.first + parts[part]!.count) part++;
    const counts = found[part]!;
    if (text !== last) counts.overlapping++;
    last = text;
    counts.tokens += to - from;
  }
  return found;
}

/** Spans of each document that has any, in order. */
function* spansByDocument(runs: CommonRuns): Generator<[document: number, spans: Span[]]> {
  let spans: Span[] = [];
  for (const span of spansOf(runs.inCorpus())) {
    if (spans.length > 0 && spans[0]!.text !== span.text) {
      yield [spans[0]!.text, spans];
      spans = [];
    }
    spans.push(span);
  }
  if (spans.length > 0) yield [spans[0]!.text, spans];
}

/** Documents without what overlaps, in order. */
function* cleaned(corpus: readonly string[], runs: CommonRuns, mode: DecontaminateParams['mode']): Generator<string> {
  let next = 0;
  for (const [document, spans] of spansByDocument(runs)) {
    yield* corpus.slice(next, document);
    if (mode === 'cut') yield* cutText(corpus[document]!, spans).pieces;
    next = document + 1;
  }
  yield* corpus.slice(next);
}

/** One line a span: where it stands in the corpus and in a dataset, and its text. */
function* overlaps(corpus: readonly string[], runs: CommonRuns, references: References): Generator<object> {
  for (const [document, spans] of spansByDocument(runs)) {
    const cut = cutText(corpus[document]!, spans);
    for (const [index, { from, to, longest, other }] of spans.entries()) {
      const { dataset, split, record } = recordAt(references, other);
      yield { document: document + 1, from, to, longestRun: longest, dataset, split, record, text: cut.spans[index] };
    }
  }
}

function countOverlap(runs: CommonRuns): Decontamination['overlap'] {
  const counts = { documents: 0, spans: 0, tokens: 0, longestRun: 0 };
  for (const [, spans] of spansByDocument(runs)) {
    counts.documents++;
    for (const { from, to, longest } of spans) {
      counts.spans++;
      counts.tokens += to - from;
      counts.longestRun = Math.max(counts.longestRun, longest);
    }
  }
  return counts;
}

export const run: StepRunner<'decontaminate'> = async (input, context): Promise<StepOutput> => {
  const { mode, runLength } = input.node.params;
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'corpora' });
  const source = datasetOf(input, 'corpus');
  const corpus = ((await readInput(input, source)).train ?? []).map(({ text }) => text);
  const references = await readReferences(input, context);

  let passes = 0;
  const runs = await commonRuns(corpus, references.texts, runLength, async () => {
    context.progress({ phase: 'index', done: ++passes, total: 0, unit: 'passes' });
    await context.breathe();
  });

  context.progress({ phase: 'write', done: 0, total: corpus.length, unit: 'documents' });
  const overlap = countOverlap(runs);
  let kept = 0;
  for (const _ of cleaned(corpus, runs, mode)) kept++;
  if (kept === 0) {
    throw new EpsilonflowError('STEP_FAILED', `Nothing is left of the corpus ${source.name}: all of it overlaps.`, {
      hint: 'Take another corpus, or a larger runLength.',
    });
  }
  await context.breathe();
  const report: Decontamination = {
    corpus: { name: source.name, digest: source.digest, documents: corpus.length, tokens: runs.tokens },
    ...{ mode, runLength, overlap, kept: { documents: kept } },
    against: overlapOf(references, runs),
  };
  await writeDecontaminated(input.outputDirectory, cleaned(corpus, runs, mode), report);
  await writeFile(
    join(input.outputDirectory, 'overlaps.jsonl'),
    jsonLines(overlaps(corpus, runs, references), (line) => line),
  );
  return {
    metrics: {
      documents: corpus.length,
      tokens: runs.tokens,
      overlappingDocuments: overlap.documents,
      overlappingSpans: overlap.spans,
      overlappingTokens: overlap.tokens,
      longestRun: overlap.longestRun,
      keptDocuments: kept,
      overlappingRecords: report.against.reduce((sum, { overlapping }) => sum + overlapping, 0),
    },
    summary: { ...report },
  };
};
