/** @file The control activities as workflows call them: short, and tried again until they succeed or cannot. */

import { proxyActivities, proxyLocalActivities, type ActivityOptions } from '@temporalio/workflow';
import type { ControlActivities } from '../activities/contract.ts';
import { folderQueue, taskQueues } from './task-queues.ts';

/** Reading only, from the worker's own disk and ledger. */
export const reading = proxyLocalActivities<Pick<ControlActivities, 'readPlanSlice' | 'findCached'>>({
  startToCloseTimeout: '1 minute',
  retry: {
    initialInterval: '200 milliseconds',
    maximumInterval: '10 seconds',
  },
});

type Activities<K extends keyof ControlActivities> = Pick<ControlActivities, K>;

/** Activities of the control queue with the lines that Temporal's pages show for them. */
function summarised<K extends keyof ControlActivities>(
  options: ActivityOptions,
  summaries: Record<K, string>,
): Activities<K> {
  const names = Object.keys(summaries) as K[];
  return Object.fromEntries(
    names.map((name) => {
      const settings = { taskQueue: taskQueues.control, summary: summaries[name], ...options };
      return [name, proxyActivities<Activities<K>>(settings)[name]];
    }),
  ) as unknown as Activities<K>;
}

/** An hour of trying bridges a database or disk that is away for a while. */
export const control = summarised(
  {
    startToCloseTimeout: '30 seconds',
    retry: {
      initialInterval: '500 milliseconds',
      maximumInterval: '30 seconds',
      maximumAttempts: 120,
    },
  },
  {
    startRun: 'Note the start of the run',
    readPlanSlice: 'Read a part of the plan',
    recordReused: 'Note results that are there already',
    recordSettled: 'Note instances that end without a result',
    recordPause: 'Note that the run is paused, or goes on',
    recordAwaited: 'Note what waits for approval',
    recordApproval: 'Note an approval',
    findSoftOverruns: 'Compare the plan with soft budgets',
    reservePlan: 'Reserve the privacy budget of the whole plan',
    readReceipts: 'Read receipts of private steps that start',
    reserveBudget: 'Reserve the privacy budget of the whole plan',
    releaseBudget: 'Give back what was reserved and not used',
    openPrivateStep: 'Make the noise key of the step',
    closePrivateStep: 'Destroy key and checkpoints of the step',
    findEnded: 'Look after workflows that have not reported',
    endRun: 'Note the end of the run',
  },
);

/**
 * Reads all data: a worker that has died is noticed by its silence. It waits for a worker of the folder for as long as it
 * takes; an hour of trying bridges services that are away for a while.
 *
 * @param folder whose workers do it; absent for those of any
 */
export const compilingIn = (folder: string | undefined): Activities<'prepareFiring'> =>
  summarised(
    {
      ...(folder === undefined ? {} : { taskQueue: folderQueue(folder) }),
      startToCloseTimeout: '30 minutes',
      heartbeatTimeout: '1 minute',
      retry: { initialInterval: '1 second', maximumInterval: '1 minute', maximumAttempts: 60 },
    },
    { prepareFiring: 'Compile the spec and ask the budget' },
  );

/** What is published already must be committed: this waits for the ledger for as long as it takes. */
export const committing = summarised(
  {
    startToCloseTimeout: '30 seconds',
    retry: {
      initialInterval: '500 milliseconds',
      maximumInterval: '1 minute',
    },
  },
  { commitPrivateStep: 'Commit what the step spent' },
);

/** What a run can do without: it gives up soon, and whatever it failed to do can be done later by command. */
export const reporting = summarised(
  {
    startToCloseTimeout: '10 minutes',
    heartbeatTimeout: '2 minutes',
    retry: { initialInterval: '1 second', maximumAttempts: 3 },
  },
  { publishToTracker: 'Publish the run to the tracker', writeRunReport: 'Write the report' },
);
