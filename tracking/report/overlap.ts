/** @file What the report says of corpora that were decontaminated. */

import type { Decontamination } from '../../datasets/index.ts';
import { doorOf } from '../door.ts';
import type { RunResults } from '../results.ts';
import { columns, type Block, type Section, type Text } from './document.ts';

const count = (value: number): string => value.toLocaleString('en');

export function overlapSection(results: RunResults): Section[] {
  const blocks = results.plan.nodes.flatMap((node): Block[] => {
    const artifact = results.artifacts.get(node.id);
    if (node.kind !== 'decontaminate' || !artifact) return [];
    const found = doorOf(results.plan, node).content(artifact.manifest.summary as unknown as Decontamination);
    return found ? overlapBlocks(node.id, found) : [];
  });
  return blocks.length > 0 ? [{ id: 'overlap', title: 'Overlap with corpora', blocks }] : [];
}

function overlapBlocks(id: string, { corpus, mode, runLength, overlap, kept, against }: Decontamination): Block[] {
  const taken =
    mode === 'cut'
      ? 'These spans were cut out, and what is left of a text between them is a text by itself'
      : 'These texts were dropped';
  const text: Text = [
    { code: id },
    `: ${count(overlap.documents)} of the ${count(corpus.documents)} texts of ${corpus.name} have a run of at least ` +
      `${count(runLength)} tokens in common with the datasets below, ${count(overlap.spans)} spans of ` +
      `${count(overlap.tokens)} of its ${count(corpus.tokens)} tokens; the longest such run has ${count(overlap.longestRun)}. ` +
      `${taken}: ${count(kept.documents)} texts are left.`,
  ];
  const rows = against.map(({ dataset, split, records, overlapping, tokens }): Text[] => [
    `${dataset}/${split}`,
    count(records),
    count(overlapping),
    count(tokens),
  ]);
  const caption = `What of the datasets stands in ${corpus.name}`;
  const names = columns('split', 'records:right', 'with a common run:right', 'tokens in such runs:right');
  return [
    { kind: 'paragraph', text },
    { kind: 'table', caption, columns: names, rows },
  ];
}
