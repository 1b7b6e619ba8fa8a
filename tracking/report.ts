/** @file The report of a run: one HTML page and a Markdown version in the run's folder, and the table for the terminal. */

import { join } from 'node:path';
import type { Plan } from '../schemas/plan.ts';
import { writeDurably } from '../store/disk.ts';
import type { Ledger } from '../privacy/ledger/index.ts';
import { chargesOf } from '../schemas/charges.ts';
import type { ArtifactReader } from '../store/index.ts';
import { reportDocument } from './report/content.ts';
import { renderHtml } from './report/html.ts';
import { renderMarkdown } from './report/markdown.ts';
import { answer } from './report/summary.ts';
import { tableOf } from './report/table.ts';
import { collectResults } from './results.ts';
import { readRun } from './runs.ts';

export interface WrittenReport {
  html: string;
  markdown: string;
}

export interface ReportSources {
  store: ArtifactReader;
  /** Asked for only where the plan charges something. */
  ledger(): Promise<Pick<Ledger, 'losses'>>;
}

/**
 * Writes `report.html` and `report.md` of what the run has found so far; replaces older ones. Returns their paths.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE when the ledger can't be asked what was lost of it
 */
export async function writeReport(
  runDirectory: string,
  plan: Plan,
  { store, ledger }: ReportSources,
): Promise<WrittenReport> {
  const record = readRun(runDirectory);
  const isCharged = plan.nodes.some((node) => chargesOf(node).length > 0);
  const losses = isCharged ? await (await ledger()).losses() : [];
  const document = await reportDocument(record, await collectResults(runDirectory, plan, store), losses);
  const written = { html: join(runDirectory, 'report.html'), markdown: join(runDirectory, 'report.md') };
  await writeDurably(written.html, renderHtml(document));
  await writeDurably(written.markdown, renderMarkdown(document));
  return written;
}

/** The results as plain text: table, what its intervals mean, and the answer. Empty when nothing was compared. */
export async function resultTable(runDirectory: string, plan: Plan, store: ArtifactReader): Promise<string> {
  const results = await collectResults(runDirectory, plan, store);
  const { header, rows, note } = tableOf(results.comparisons);
  if (rows.length === 0) return '';
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const line = (cells: string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd();
  const rule = line(widths.map((width) => '─'.repeat(width)));
  return [line(header), rule, ...rows.map(line), '', ...wrap(note), '', ...wrap(answer(results))].join('\n');
}

/** Lines of at most 100 characters. */
function wrap(text: string): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const extended = `${lines.at(-1)!} ${word}`.trimStart();
    if (extended.length > 100 && lines.at(-1) !== '') lines.push(word);
    else lines[lines.length - 1] = extended;
  }
  return lines;
}
