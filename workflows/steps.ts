/** @file How step activities are scheduled: queue, bounds and retries of each kind, and their names in Temporal's UI. */

import { ActivityCancellationType, scheduleActivity, type RetryPolicy } from '@temporalio/workflow';
import type { Resource } from '../schemas/scheduling.ts';
import type { StepKind } from '../schemas/plan.ts';
import type { BatchedNode, StepOutcome, StepRequest } from '../activities/contract.ts';
import { taskQueues } from './task-queues.ts';

interface StepBounds {
  queue: (typeof taskQueues)[keyof typeof taskQueues];
  /** The longest that one attempt may take. */
  startToClose: '1 hour' | '2 days' | '7 days';
}

const bounds: Record<StepKind, StepBounds> = {
  decontaminate: { queue: taskQueues.cpu, startToClose: '2 days' },
  pretrain: { queue: taskQueues.cpu, startToClose: '7 days' },
  finetune: { queue: taskQueues.cpu, startToClose: '7 days' },
  generate: { queue: taskQueues.cpu, startToClose: '2 days' },
  'train-classifier': { queue: taskQueues.cpu, startToClose: '2 days' },
  measure: { queue: taskQueues.cpu, startToClose: '2 days' },
  audit: { queue: taskQueues.cpu, startToClose: '7 days' },
  compare: { queue: taskQueues.control, startToClose: '1 hour' },
};

/** What a limit of the run counts; null for what is done at once. */
export function resourceOf({ kind, queue = bounds[kind].queue }: Pick<BatchedNode, 'kind' | 'queue'>): Resource | null {
  if (queue === taskQueues.control) return null;
  return queue === 'gpu' || queue.startsWith('gpu.') ? 'gpu' : 'cpu';
}

/**
 * A worker that is stopped or killed costs an attempt too, so there are many; a step that crashes by itself has few.
 * Errors say themselves whether they are to be tried again (`toApplicationFailure`): a list of codes here would stand in
 * every event that schedules a step.
 */
export const stepRetry: RetryPolicy = {
  initialInterval: '1 second',
  backoffCoefficient: 2,
  maximumInterval: '1 minute',
  maximumAttempts: 20,
};

/** Says who does a step that reads private data. */
export const workerWith = (datasets: readonly string[]): string =>
  `on a worker that has dataset ${datasets.join(' and ')}`;

/** Runs one step as an activity of its kind's own type. */
export function runStep(node: Omit<BatchedNode, 'needs'>, request: StepRequest): Promise<StepOutcome> {
  const { queue, startToClose } = bounds[node.kind];
  return scheduleActivity<StepOutcome>(node.kind, [request], {
    activityId: node.slug,
    summary: node.reads ? `${node.id}, ${workerWith(node.reads)}` : node.id,
    taskQueue: node.queue ?? queue,
    startToCloseTimeout: startToClose,
    // Above the bound after which a job without progress is ended (120 s, looked at every 2 s), which says more.
    heartbeatTimeout: '3 minutes',
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: stepRetry,
  });
}
