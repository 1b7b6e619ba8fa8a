/** @file The section of a report on how near synthetic sets are to real records. */

import type { Measurement, MeasuredFigure } from '../../schemas/measurement.ts';
import type { Plan } from '../../schemas/plan.ts';
import type { MeasuredNode, RunResults } from '../results.ts';
import { columns, type Block, type Section, type Text } from './document.ts';

import { listed } from './summary.ts';

const titles: Record<string, string> = {
  unigramDivergence: 'divergence of words, bits',
  bigramDivergence: 'divergence of word pairs, bits',
  trigramDivergence: 'divergence of word triples, bits',
  lengthDivergence: 'divergence of lengths in words, bits',
  labelDistance: 'distance of label shares',
  distinct1: 'distinct words',
  distinct2: 'distinct word pairs',
  distinct3: 'distinct word triples',
  selfBleu: 'self-BLEU',
  duplicates: 'repeated rows',
  nearDuplicates: 'nearly repeated rows',
  trainCopies: 'copies of training rows',
  nearTrainCopies: 'near copies of training rows',
  perplexity: 'perplexity',
  mauve: 'MAUVE',
  frechetDistance: 'Fréchet distance',
  precision: 'precision: rows in the manifold of test rows',
  recall: 'recall: test rows in the manifold of the rows',
  labelFidelity: 'labels that a classifier of real text gives too',
};

const show = (figure: MeasuredFigure | undefined): string =>
  figure === undefined ? '–' : `${figure.value.toFixed(3)} ± ${figure.error.toFixed(3)}`;

function tableOf({ node, measurement: { rows, measures } }: MeasuredNode): Block {
  return {
    kind: 'table',
    caption: `${node.id}: ${rows} rows of each kind, held against ${rows} test rows`,
    columns: columns('measure', 'synthetic:right', 'other test rows:right', 'training rows:right'),
    rows: Object.entries(measures).map(([name, { synthetic, ceiling, train }]): Text[] => [
      titles[name] ?? name,
      show(synthetic),
      show(ceiling),
      show(train),
    ]),
  };
}

function notesOf({ leftOut, vectors }: Measurement): Block[] {
  const notes = vectors === null ? [] : [`Texts are vectors by ${vectors}.`];
  for (const reason of new Set(Object.values(leftOut))) {
    const names = Object.keys(leftOut).filter((name) => leftOut[name] === reason);
    notes.push(`Left out: ${listed(names.map((name) => titles[name] ?? name))}; ${reason}.`);
  }
  return notes.map((text) => ({ kind: 'paragraph', text }));
}

/** Whose records measures were made of: no figure of the statement counts that. */
export function measuredNote({ nodes, datasets }: Pick<Plan, 'nodes' | 'datasets'>): Block[] {
  const read = nodes.flatMap(({ kind, inputs }) =>
    kind === 'measure' || kind === 'audit'
      ? Object.values(inputs).flatMap((input) => ('dataset' in input ? [input.dataset] : []))
      : [],
  );
  const names = [...new Set(read)].filter((name) => datasets[name]!.sensitivity !== 'public');
  if (names.length === 0) return [];
  const text = `Measures and audits read records of ${listed(names)}, exactly: they are part of no epsilon above.`;
  return [{ kind: 'paragraph', text }];
}

export function measureSection({ measurements }: RunResults): Section[] {
  if (measurements.length === 0) return [];
  const note: Block = {
    kind: 'paragraph',
    text:
      'Other test rows show what is the best that can be had: finite samples of one distribution differ too. After ± ' +
      'stands the standard error that the choice of rows gives; another seed of the generator may differ by more. All ' +
      'figures are exact: no epsilon bounds what they tell of real records.',
  };
  const tables = measurements.flatMap((measured) => [tableOf(measured), ...notesOf(measured.measurement)]);
  return [{ id: 'measures', title: 'Nearness of the synthetic text', blocks: [note, ...tables] }];
}
