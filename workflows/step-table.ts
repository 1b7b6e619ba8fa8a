/** @file How far the steps of a run are, as the table that Temporal's page of its workflow shows. Pure. */

import type { NodeState } from './scheduler.ts';

/** `generator` of `generator[epsilon=3]`. */
export const stepOf = (id: string): string => id.split('[', 1)[0]!;

const columns = ['done', 'running', 'to do', 'failed', 'cancelled', 'skipped'] as const;
type Column = (typeof columns)[number];

const columnOf: Record<Exclude<NodeState, 'running'>, Column> = {
  waiting: 'to do',
  ready: 'to do',
  completed: 'done',
  failed: 'failed',
  cancelled: 'cancelled',
  skipped: 'skipped',
};

/**
 * Markdown, a row a step in plan order; columns that are empty in all rows are left out.
 *
 * @param isRunning of a node that was given to a child, whether it runs there
 */
export function stepTable(states: Iterable<readonly [string, NodeState]>, isRunning: (id: string) => boolean): string {
  const rows = new Map<string, Record<Column, number>>();
  for (const [id, state] of states) {
    const step = stepOf(id);
    let row = rows.get(step);
    if (!row) rows.set(step, (row = { done: 0, running: 0, 'to do': 0, failed: 0, cancelled: 0, skipped: 0 }));
    row[state === 'running' ? (isRunning(id) ? 'running' : 'to do') : columnOf[state]] += 1;
  }
  const shown = columns.filter((column) => column === 'done' || [...rows.values()].some((row) => row[column] > 0));
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['step', ...shown]),
    line(['---', ...shown.map(() => '---:')]),
    ...[...rows].map(([step, row]) => line([step, ...shown.map((column) => row[column])])),
  ].join('\n');
}
