/** @file `epsilonflow cancel`: ends a run. What has finished stays in the store and is reused by later runs. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { EpsilonflowError } from '../schemas/errors.ts';
import { action, printJson, printLine } from './output.ts';

export function cancelCommand(program: Command): void {
  program
    .command('cancel')
    .description('End a run. Running steps are stopped; what has finished is kept and reused by later runs.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow cancel quickstart/3')
    .action(action(cancel));
}

/** How long a cancelled run may take to settle: its steps write a last checkpoint first. Milliseconds. */
const settleTimeout = 90_000;

async function cancel(reference: string, { json }: { json?: boolean }): Promise<void> {
  const { resolveRun } = await import('../tracking/runs.ts');
  const { ensureTemporal } = await import('../stack/services.ts');
  const { ensureWorker } = await import('../stack/worker-process.ts');
  const { connectTemporal, workflowState } = await import('./temporal-client.ts');
  const { record } = resolveRun(reference);
  const run = `${record.name}/${record.number}`;
  const temporal = await ensureTemporal();
  const client = await connectTemporal(temporal);
  try {
    const state = await workflowState(client, record.workflowId);
    if (state !== 'running') {
      if (json) return printJson({ run, cancelled: false });
      return printLine(`${run} does not run any more.`);
    }
    await client.workflow.getHandle(record.workflowId).cancel();
    // Only a worker can stop the steps, give the budget back and close the run.
    await ensureWorker(temporal);
    for (const deadline = Date.now() + settleTimeout; Date.now() < deadline; await sleep(200)) {
      if ((await workflowState(client, record.workflowId)) === 'running') continue;
      if (json) return printJson({ run, cancelled: true });
      return printLine(`${run} is cancelled. What has finished is kept: run the spec again to go on.`);
    }
    throw new EpsilonflowError('SERVICE_UNREACHABLE', `${run} was asked to end, and has not ended yet.`, {
      hint: `Look again with \`epsilonflow status ${run}\`.`,
    });
  } finally {
    await client.connection.close();
  }
}
