/** @file `epsilonflow retry`: runs again what an ended run has no result of, as a new run of the same plan. */

import type { Command } from 'commander';
import { parsePriority, priorityHelp } from './priority.ts';
import { action, exitCodes, printJson, printLine } from './output.ts';
import type { ShowOptions } from './show-run.ts';

interface RetryOptions extends ShowOptions {
  spend?: boolean;
}

export function retryCommand(program: Command): void {
  program
    .command('retry')
    .description(
      'Run the failed, cancelled and skipped instances of an ended run again, as a new run of the same plan.',
    )
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .option('--spend', 'agree to what private instances are charged anew')
    .option('--priority <1-5>', priorityHelp, parsePriority)
    .option('--detach', 'start it and return')
    .option('--json', 'print the outcome as JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow retry quickstart/3')
    .action(action(retry));
}

async function retry(reference: string, options: RetryOptions): Promise<number> {
  const { resolveRun } = await import('../tracking/runs.ts');
  const { openStore } = await import('../store/index.ts');
  const { summaryOf } = await import('./run-outcome.ts');
  const { refuseIfOverdrawn } = await import('../compiler/index.ts');
  const { compileAgain, refuseIfUnderWay } = await import('./compile-again.ts');
  const { confirmSpending } = await import('./confirm-spending.ts');
  const { startAndShow } = await import('./show-run.ts');
  const { directory, record } = resolveRun(reference);
  const run = `${record.name}/${record.number}`;
  const { status } = summaryOf(directory);
  if (status === 'completed') {
    if (options.json) printJson({ run, retried: false });
    else printLine(`${run} is complete: there is nothing to run again.`);
    return exitCodes.fine;
  }
  await refuseIfUnderWay(run, record.workflowId);
  const again = await compileAgain(run, record, await openStore().loadPlan(record.planDigest));
  refuseIfOverdrawn(again.compiled);
  await confirmSpending(again.compiled.plan, options.spend === true);
  return startAndShow(again, options);
}
