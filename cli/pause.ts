/** @file `epsilonflow pause` and `resume`: steps stop at a checkpoint, the processor is free, and they go on later. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { Command } from 'commander';
import type { ExperimentStatus } from '../activities/contract.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { action, printJson, printLine } from './output.ts';

interface Output {
  json?: boolean;
}

export function pauseCommand(program: Command): void {
  program
    .command('pause')
    .description('Stop a run for a while: its steps write a checkpoint and end. What it has reserved stays reserved.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow pause quickstart/3')
    .action(action(pause));
}

export function resumeCommand(program: Command): void {
  program
    .command('resume')
    .description('Let a paused run go on: its steps go on from their checkpoints, and nothing is charged again.')
    .argument('<run>', 'NAME/NUMBER, NAME or latest')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow resume quickstart/3')
    .action(action(resume));
}

/** How long steps may take to end; a worker that has died costs the heartbeat's timeout. Milliseconds. */
const settleTimeout = 240_000;

async function pause(reference: string, { json }: Output): Promise<void> {
  const { withOpenRun } = await import('./open-workflow.ts');
  await withOpenRun(reference, async ({ run, client, workflowId }) => {
    await setPaused(client, workflowId, true);
    await untilNothingRuns(client, workflowId, run);
    if (json) return printJson({ run, paused: true });
    printLine(`${run} is paused, and none of its steps runs. \`epsilonflow resume ${run}\` goes on.`);
  });
}

async function resume(reference: string, { json }: Output): Promise<void> {
  const { withOpenRun } = await import('./open-workflow.ts');
  await withOpenRun(reference, async ({ run, client, workflowId }) => {
    const resumed = await setPaused(client, workflowId, false);
    if (json) return printJson({ run, resumed });
    printLine(resumed ? `${run} goes on from its checkpoints.` : `${run} is not paused.`);
  });
}

const setPaused = (client: Client, workflowId: string, paused: boolean): Promise<boolean> =>
  client.workflow.getHandle(workflowId).executeUpdate<boolean, [boolean]>('setPaused', { args: [paused] });

/** Asks Temporal, since steps may run on other hosts. */
async function untilNothingRuns(client: Client, workflowId: string, run: string): Promise<void> {
  let looks = 0;
  for (const deadline = Date.now() + settleTimeout; Date.now() < deadline; await sleep(200)) {
    // Twice: a child that has not heard of the pause yet may just have started a step.
    looks = (await isIdle(client, workflowId)) ? looks + 1 : 0;
    if (looks === 2) return;
  }
  throw new EpsilonflowError('SERVICE_UNREACHABLE', `${run} is paused, and some of its steps have not ended yet.`, {
    hint: `Is there a worker for them? Look again with \`epsilonflow pause ${run}\`.`,
  });
}

async function isIdle(client: Client, workflowId: string): Promise<boolean> {
  const { phase, children } = await client.workflow.getHandle(workflowId).query<ExperimentStatus>('status');
  if (phase === 'pausing') return false;
  for (const id of children) {
    const { raw } = await client.workflow.getHandle(id).describe();
    if ((raw.pendingActivities ?? []).length > 0) return false;
  }
  return true;
}
