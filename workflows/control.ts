/** @file The control activities as workflows call them: short, and tried again until they succeed or cannot. */

import { proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { ControlActivities } from '../activities/contract.ts';
import { taskQueues } from './task-queues.ts';
import { nonRetryableCodes } from './failures.ts';

/** Reading only, from the worker's own disk and ledger. */
export const reading = proxyLocalActivities<Pick<ControlActivities, 'readPlanSlice' | 'findCached'>>({
  startToCloseTimeout: '1 minute',
  retry: {
    initialInterval: '200 milliseconds',
    maximumInterval: '10 seconds',
    nonRetryableErrorTypes: nonRetryableCodes,
  },
});

/** An hour of trying bridges a database or disk that is away for a while. */
export const control = proxyActivities<
  Omit<ControlActivities, 'readPlanSlice' | 'findCached' | 'commitPrivateStep' | 'publishToTracker' | 'writeRunReport'>
>({
  taskQueue: taskQueues.control,
  startToCloseTimeout: '30 seconds',
  retry: {
    initialInterval: '500 milliseconds',
    maximumInterval: '30 seconds',
    maximumAttempts: 120,
    nonRetryableErrorTypes: nonRetryableCodes,
  },
});

/** What is published already must be committed: this waits for the ledger for as long as it takes. */
export const committing = proxyActivities<Pick<ControlActivities, 'commitPrivateStep'>>({
  taskQueue: taskQueues.control,
  startToCloseTimeout: '30 seconds',
  retry: {
    initialInterval: '500 milliseconds',
    maximumInterval: '1 minute',
    nonRetryableErrorTypes: nonRetryableCodes,
  },
});

/** What a run can do without: it gives up soon, and whatever it failed to do can be done later by command. */
export const reporting = proxyActivities<Pick<ControlActivities, 'publishToTracker' | 'writeRunReport'>>({
  taskQueue: taskQueues.control,
  startToCloseTimeout: '10 minutes',
  heartbeatTimeout: '2 minutes',
  retry: { initialInterval: '1 second', maximumAttempts: 3 },
});
