/** @file `epsilonflow retry`: runs again what an ended run has no result of, as a new run of the same plan. */

import { resolve } from 'node:path';
import type { Command } from 'commander';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import type { RunRecord } from '../tracking/runs.ts';
import { action, exitCodes, printJson, printLine } from './output.ts';
import type { CompiledRun, ShowOptions } from './show-run.ts';

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
  const { spec } = await openStore().loadPlan(record.planDigest);
  const again = await compileAgain(run, record, spec);
  refuseIfOverdrawn(again.compiled);
  await confirmSpending(again.compiled.plan, options.spend === true);
  return startAndShow(again, options);
}

/** Asks Temporal, since the log of a run that was terminated tells no end. */
async function refuseIfUnderWay(run: string, workflowId: string): Promise<void> {
  const { ensureTemporal } = await import('../stack/services.ts');
  const { connectTemporal, workflowState } = await import('./temporal-client.ts');
  const client = await connectTemporal(await ensureTemporal());
  try {
    if ((await workflowState(client, workflowId)) !== 'running') return;
  } finally {
    await client.connection.close();
  }
  throw new EpsilonflowError('ARGUMENT_INVALID', `${run} has not ended.`, {
    hint: `End it first with \`epsilonflow cancel ${run}\`, or wait.`,
  });
}

/** A plan names its spec, and every place in it, as the command that started it did. */
async function compileAgain(run: string, record: RunRecord, { file, profile }: Plan['spec']): Promise<CompiledRun> {
  const { compileRun } = await import('./show-run.ts');
  if (resolve(file) !== record.specFile) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `${run} was started from another folder.`, {
      hint: `Go where ${file} is ${record.specFile}.`,
    });
  }
  const again = await compileRun(file, profile ?? undefined);
  if (again.compiled.plan.digest === record.planDigest) return again;
  throw new EpsilonflowError(
    'ARGUMENT_INVALID',
    `The spec or its data, or this program, changed after ${run} started.`,
    {
      hint: `Run it as it is now: \`epsilonflow run ${file}\` reuses every result that the change doesn't touch.`,
    },
  );
}
