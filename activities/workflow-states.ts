/** @file What Temporal says of workflows, for those that wait for them. */

import { getClient } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import type { ControlActivities } from './contract.ts';

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

export const workflowStates: Pick<ControlActivities, 'findEnded'> = {
  async findEnded(_run, workflowIds) {
    const client = getClient();
    const ended: string[] = [];
    for (const id of workflowIds) if ((await workflowState(client, id)) !== 'open') ended.push(id);
    return ended;
  },
};
