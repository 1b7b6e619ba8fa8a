/** @file `epsilonflow status`: how far a run is, or which runs there are. */

import type { Command } from 'commander';
import type { Plan } from '../schemas/plan.ts';
import type { LiveProgress } from '../activities/live-progress.ts';
import type { Store } from '../store/index.ts';
import type { PartialSum } from '../tracking/estimates.ts';
import type { RunSummary } from '../tracking/run-summary.ts';
import type { RunFolder } from '../tracking/runs.ts';
import type { AwaitedWorker } from './awaited-workers.ts';
import { action, formatTable, printJson, printLine, styled } from './output.ts';

export function statusCommand(program: Command): void {
  program
    .command('status')
    .description('Show how far a run is; without a run, list all.')
    .argument('[run]', 'NAME/NUMBER, NAME or latest')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow status latest')
    .action(action(status));
}

async function status(reference: string | undefined, { json }: { json?: boolean }): Promise<void> {
  const { listRuns, resolveRun } = await import('../tracking/runs.ts');
  const { stateOf } = await import('../tracking/run-summary.ts');
  const { countNodes, findTemporalPages, outcomeOf, printOutcome, summaryOf } = await import('./run-outcome.ts');
  const { openStore } = await import('../store/index.ts');
  const { progressElsewhere, takeFromOthers } = await import('./other-hosts.ts');
  const store = openStore();
  if (reference === undefined) {
    await takeFromOthers(
      store,
      listRuns().filter(({ directory }) => summaryOf(directory).status === 'running'),
    );
    const rows = await Promise.all(
      listRuns().map(async ({ directory, record }) => {
        const summary = summaryOf(directory);
        const counts = countNodes(await store.loadPlan(record.planDigest), summary);
        return {
          run: `${record.name}/${record.number}`,
          status: stateOf(summary),
          startedAt: record.startedAt,
          counts,
        };
      }),
    );
    if (json) return printJson({ runs: rows });
    if (rows.length === 0) return printLine('There is no run yet. Start one: epsilonflow run SPEC');
    return printLine(
      formatTable(
        ['run', 'status', 'started', 'done'],
        rows.map(({ run, status: state, startedAt, counts }) => [
          run,
          state,
          startedAt,
          `${counts.completed}/${counts.nodes}`,
        ]),
      ),
    );
  }
  const folder = resolveRun(reference);
  await takeFromOthers(store, [folder]);
  const plan = await store.loadPlan(folder.record.planDigest);
  const temporal = await findTemporalPages();
  const { readProgress } = await import('../activities/live-progress.ts');
  const progress = [...readProgress(folder.directory), ...(await progressElsewhere(store, folder))];
  const awaited = await findAwaited(plan, summaryOf(folder.directory));
  const left = await timeLeftNow(folder, store, progress);
  if (json)
    return printJson({
      ...outcomeOf(folder, plan, temporal),
      awaitedWorkers: awaited,
      progress,
      timeLeft: typeof left === 'string' ? null : left && { seconds: left.sum, unknown: left.unknown },
    });
  await printOutcome(folder, plan, temporal);
  const { describeAwaited } = await import('./awaited-workers.ts');
  for (const line of describeAwaited(awaited).values()) printLine(`  ${styled('yellow', 'waits')} ${line}`);
  const { leftText } = await import('./time-left.ts');
  if (left !== null) printLine(`  ${typeof left === 'string' ? left : leftText(left)}`);
  const { describeProgress } = await import('./live-block.ts');
  for (const step of progress) printLine(`  running ${describeProgress(step)}`);
}

/** What no worker takes; nothing where Temporal can't be asked. */
async function findAwaited(plan: Plan, summary: RunSummary): Promise<AwaitedWorker[]> {
  if (summary.status !== 'running') return [];
  const { answeringServices } = await import('../stack/services.ts');
  const { connectTemporal } = await import('./temporal-client.ts');
  const { awaitedWorkers } = await import('./awaited-workers.ts');
  try {
    const { temporal } = await answeringServices();
    if (temporal === null) return [];
    const client = await connectTemporal(temporal);
    try {
      return await client.withDeadline(Date.now() + 5_000, () => awaitedWorkers(client, plan, summary));
    } finally {
      await client.connection.close();
    }
  } catch {
    return [];
  }
}

const unestimated = 'time left: no estimate here';

/** Null when the run has ended, or nothing of it is left. */
async function timeLeftNow(
  folder: RunFolder,
  store: Pick<Store, 'logs'>,
  progress: readonly LiveProgress[],
): Promise<PartialSum | typeof unestimated | null> {
  const { readEvents } = await import('../tracking/events.ts');
  const { summariseRun } = await import('../tracking/run-summary.ts');
  const { openClock } = await import('./time-left.ts');
  const { events } = readEvents(folder.directory);
  const { status, nodes } = summariseRun(events);
  if (status !== 'running') return null;
  const clock = await openClock(folder, store);
  return clock === null ? unestimated : clock({ events, nodes, progress });
}
