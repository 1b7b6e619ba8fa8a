/** @file The project's workflows, and beside them what one would write by hand for the same graph. */

import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { ControlActivities, PlannedNode, RunIdentity, StepActivities } from '../activities/contract.ts';
import { stepRetry } from '../workflows/steps.ts';
import { taskQueues } from '../workflows/task-queues.ts';

export * from '../workflows/index.ts';

const control = proxyActivities<ControlActivities>({ taskQueue: taskQueues.control, startToCloseTimeout: '1 minute' });
const steps = proxyActivities<StepActivities>({
  taskQueue: taskQueues.cpu,
  startToCloseTimeout: '7 days',
  heartbeatTimeout: '3 minutes',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: stepRetry,
});

/** Starts each step when those that it needs have ended. */
export async function handWritten(
  run: RunIdentity,
  nodes: Pick<PlannedNode, 'id' | 'kind' | 'needs'>[],
): Promise<number> {
  await control.startRun(run);
  const ends = new Map<string, Promise<unknown>>();
  for (const { id, kind, needs } of nodes) {
    const inputs = Promise.all(needs.map((need) => ends.get(need)!));
    ends.set(
      id,
      inputs.then(() => steps[kind]({ run, nodeId: id, receipts: [], ledgerHead: null })),
    );
  }
  await Promise.all(ends.values());
  await control.endRun(run, 'completed');
  await control.writeRunReport(run);
  return ends.size;
}
