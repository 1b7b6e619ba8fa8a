/** @file What Temporal says of workflows, for those that wait for them. */

import { getClient } from '@temporalio/activity';
import { WorkflowNotFoundError } from '@temporalio/common';
import type { ControlActivities } from './contract.ts';

export const workflowStates: Pick<ControlActivities, 'findEnded'> = {
  async findEnded(_run, workflowIds) {
    const client = getClient();
    const ended: string[] = [];
    for (const workflowId of workflowIds) {
      try {
        const { status } = await client.workflow.getHandle(workflowId).describe();
        if (status.name !== 'RUNNING' && status.name !== 'PAUSED') ended.push(workflowId);
      } catch (error) {
        if (!(error instanceof WorkflowNotFoundError)) throw error;
        ended.push(workflowId);
      }
    }
    return ended;
  },
};
