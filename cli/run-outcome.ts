/** @file What a command says of a run: links, counts, table. */

import { describeApproval } from '../schemas/approvals.ts';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { linksFile } from '../activities/worker-parts.ts';
import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import type { Plan } from '../schemas/plan.ts';
import { serviceStatuses, type Services, type TemporalService } from '../stack/services.ts';
import { namedServer } from '../stack/temporal-connection.ts';
import { openStore } from '../store/index.ts';
import { readEvents } from '../tracking/events.ts';
import { stateOf, summariseRun, type RunSummary } from '../tracking/run-summary.ts';
import { resultTable } from '../tracking/report.ts';
import { publicAddress, type PublishedLinks } from '../tracking/publish.ts';
import type { RunFolder } from '../tracking/runs.ts';
import { printLine, shortPath, styled } from './output.ts';

export interface RunLinks {
  temporal: string | null;
  mlflow: string | null;
  /** Path of the HTML report. */
  report: string | null;
}

/** Where Temporal's web pages are. */
export type TemporalPages = Pick<TemporalService, 'uiUrl' | 'namespace'>;

/** The pages of the server that runs go to, without starting it. */
export async function findTemporalPages(): Promise<TemporalPages | null> {
  const temporal = (await serviceStatuses()).find(({ name }) => name === 'temporal');
  if (!temporal) return null;
  const namespace = namedServer()?.namespace ?? 'default';
  return { namespace, uiUrl: temporal.own ? temporal.url : (process.env['TEMPORAL_UI_URL'] ?? null) };
}

export function linksOf({ directory, record }: RunFolder, temporal: TemporalPages | null): RunLinks {
  const report = join(directory, 'report.html');
  return {
    temporal: temporal && workflowUrl(temporal, record.workflowId),
    mlflow: readLinks(directory)?.run ?? null,
    report: existsSync(report) ? report : null,
  };
}

const workflowUrl = ({ uiUrl, namespace }: TemporalPages, workflowId: string): string | null =>
  uiUrl && `${uiUrl}/namespaces/${namespace}/workflows/${encodeURIComponent(workflowId)}`;

export type LiveLink = readonly [title: string, address: string];

/** Where a run can be looked at while it goes on: its page of the tracker is there once something was published. */
export function liveLinks({ directory, record }: RunFolder, { temporal, mlflow }: Services): () => LiveLink[] {
  const workflow = workflowUrl(temporal, record.workflowId);
  let published: string | null = null;
  return () => {
    published ??= readLinks(directory)?.run ?? null;
    const tracker = published ?? (mlflow && publicAddress(mlflow.uri));
    return [
      ...(workflow === null ? [] : [['Temporal', workflow] as const]),
      ...(tracker === null ? [] : [['MLflow', tracker] as const]),
    ];
  };
}

function readLinks(directory: string): PublishedLinks | null {
  try {
    return JSON.parse(readFileSync(linksFile(directory), 'utf8')) as PublishedLinks;
  } catch {
    return null;
  }
}

export interface RunCounts {
  nodes: number;
  completed: number;
  reused: number;
  running: number;
  failed: number;
  cancelled: number;
  skipped: number;
}

export function countNodes(plan: Plan, { nodes }: RunSummary): RunCounts {
  const counts = { nodes: plan.nodes.length, completed: 0, reused: 0, running: 0, failed: 0, cancelled: 0, skipped: 0 };
  for (const { status, reused } of nodes.values()) {
    if (status !== 'waiting') counts[status] += 1;
    if (status === 'completed' && reused) counts.reused += 1;
  }
  return counts;
}

export const summaryOf = (directory: string): RunSummary => summariseRun(readEvents(directory).events);

/** The same for scripts. */
export function outcomeOf(folder: RunFolder, plan: Plan, temporal: TemporalPages | null): object {
  const { record, directory } = folder;
  const summary = summaryOf(directory);
  return {
    run: `${record.name}/${record.number}`,
    status: stateOf(summary),
    workflowId: record.workflowId,
    planDigest: record.planDigest,
    directory,
    counts: countNodes(plan, summary),
    awaiting: summary.awaiting,
    approvals: summary.approvals,
    links: linksOf(folder, temporal),
    unsent: unsentOf(summary),
    failures: [...summary.nodes].flatMap(([node, { status, failure }]) =>
      status === 'failed' && failure ? [{ node, ...failure, remedy: remedyOf(failure.code) }] : [],
    ),
  };
}

/** Steps whose newest checkpoint other hosts can't go on from. */
const unsentOf = ({ nodes }: RunSummary): { node: string; code: string; since: string }[] =>
  [...nodes].flatMap(([node, { unsent }]) =>
    unsent ? [{ node, code: unsent.code, since: new Date(unsent.since).toISOString() }] : [],
  );

/** What the registry advises; null for a code that it does not know. */
const remedyOf = (code: string): string | null =>
  Object.hasOwn(errorCodes, code) ? errorCodes[code as ErrorCode].remedy : null;

/** Failures that are shown one by one: with table and links they fit on a screen. */
const mostFailures = 10;

/** Failures alike in step and code stand once, with their count; all are under `--json`. */
export function failureLines({ nodes }: Pick<Plan, 'nodes'>, summary: Pick<RunSummary, 'nodes'>): string[] {
  const steps = new Map(nodes.map(({ id, step }) => [id, step]));
  const groups = new Map<string, { line: string; count: number }>();
  for (const [id, { failure, status }] of summary.nodes) {
    if (status !== 'failed' || !failure) continue;
    const alike = `${steps.get(id) ?? id} ${failure.code}`;
    const line = `${styled('red', 'failed')} ${id}: ${failure.code}: ${failure.message}`;
    const group = groups.get(alike) ?? { line, count: 0 };
    groups.set(alike, { ...group, count: group.count + 1 });
  }
  const all = [...groups].map(([alike, { line, count }]) => ({ alike, line, count }));
  const shown = all.slice(0, mostFailures).map(({ alike, line, count }) => {
    return count === 1 ? line : `${line} (and ${count - 1} more of ${alike.replace(' ', ' with ')})`;
  });
  const left = all.slice(mostFailures).reduce((sum, { count }) => sum + count, 0);
  return left === 0 ? shown : [...shown, `and ${left} more failures: --json lists all`];
}

/** Table, counts and links, for people. */
export async function printOutcome(folder: RunFolder, plan: Plan, temporal: TemporalPages | null): Promise<void> {
  const { name, number } = folder.record;
  const summary = summaryOf(folder.directory);
  const counts = countNodes(plan, summary);
  const table = await resultTable(folder.directory, plan, openStore());
  if (table) printLine(`\n${table}\n`);
  const parts = [`${counts.completed} of ${counts.nodes} instances done`];
  if (counts.reused > 0) parts.push(`${counts.reused} of them reused from earlier runs`);
  for (const state of ['running', 'failed', 'cancelled', 'skipped'] as const) {
    if (counts[state] > 0) parts.push(`${counts[state]} ${state}`);
  }
  printLine(`${styled('bold', `${name}/${number}`)} ${stateOf(summary)}: ${parts.join(', ')}`);
  if (summary.awaiting) {
    const asked = `epsilonflow approve ${name}/${number} --reason TEXT`;
    printLine(`  ${styled('yellow', 'waits')} for approval of ${describeApproval(summary.awaiting)}: ${asked}`);
  }
  for (const { node, code, since } of unsentOf(summary)) {
    const what = 'its checkpoints have not reached the shared store since';
    printLine(`  ${styled('yellow', 'warning')} ${node}: ${what} ${since}: ${code}`);
  }
  for (const line of failureLines(plan, summary)) printLine(`  ${line}`);
  const codes = [...summary.nodes.values()].flatMap(({ status, failure }) =>
    status === 'failed' && failure ? [failure.code] : [],
  );
  for (const remedy of new Set(codes.map(remedyOf))) if (remedy !== null) printLine(`  ${remedy}`);
  const links = linksOf(folder, temporal);
  if (links.report) printLine(`Report    ${shortPath(links.report)}`);
  if (links.mlflow) printLine(`MLflow    ${links.mlflow}`);
  if (links.temporal) printLine(`Temporal  ${links.temporal}`);
}
