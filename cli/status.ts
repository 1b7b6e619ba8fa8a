/** @file `epsilonflow status`: how far a run is, or which runs there are. */

import type { Command } from 'commander';
import { action, formatTable, printJson, printLine } from './output.ts';

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
  const { stateOf } = await import('../tracking/events.ts');
  const { countNodes, findTemporalPages, outcomeOf, printOutcome, summaryOf } = await import('./run-outcome.ts');
  const { openStore } = await import('../store/index.ts');
  const store = openStore();
  if (reference === undefined) {
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
  const plan = await store.loadPlan(folder.record.planDigest);
  const temporal = await findTemporalPages();
  const { readProgress } = await import('../activities/live-progress.ts');
  const progress = readProgress(folder.directory);
  if (json) return printJson({ ...outcomeOf(folder, plan, temporal), progress });
  await printOutcome(folder, plan, temporal);
  const { describeProgress } = await import('./live-view.ts');
  for (const step of progress) printLine(`  running ${describeProgress(step)}`);
}
