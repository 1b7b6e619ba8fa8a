/** @file What Temporal says of workflows, for those that wait for them. */

import { getClient } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { inParallel } from '../schemas/in-parallel.ts';
import type { ControlActivities } from './contract.ts';

/** Workflows that are asked for at a time, and how long for each, and for all; milliseconds. */
const askedTogether = 16;
const bounds = { one: 5_000, all: 20_000 };

/** `unknown`: of another server, or forgotten. */
export async function workflowState(client: Client, workflowId: string): Promise<'open' | 'ended' | 'unknown'> {
  try {
    const { status } = await client.workflow.getHandle(workflowId).describe();
    return status.name === 'RUNNING' || status.name === 'PAUSED' ? 'open' : 'ended';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'unknown';
    throw error;
  }
}

/**
 * Those that do not run any more, or never did. One that no answer comes for counts as running: it is looked at the next
 * time.
 *
 * @throws what the server answered first, where it answered for none
 */
export async function endedOf(client: Client, workflowIds: readonly string[]): Promise<string[]> {
  const until = Date.now() + bounds.all;
  const failures: unknown[] = [];
  const states = await inParallel(askedTogether, workflowIds, async (id) => {
    try {
      const deadline = Math.min(until, Date.now() + bounds.one);
      return await client.withDeadline(deadline, () => workflowState(client, id));
    } catch (error) {
      failures.push(error);
      return 'open';
    }
  });
  if (workflowIds.length > 0 && failures.length === workflowIds.length) throw failures[0];
  return workflowIds.filter((_, place) => states[place] !== 'open');
}

export const workflowStates: Pick<ControlActivities, 'findEnded'> = {
  findEnded: (_run, workflowIds) => endedOf(getClient(), workflowIds),
};
