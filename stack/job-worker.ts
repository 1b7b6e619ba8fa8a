/** @file How jobs are taken from a queue: only while a place for them is free. */

import type { WorkerOptions } from '@temporalio/worker';
import type { JobSlots } from '../activities/job-slots.ts';

/** Of what these queues do not hold. */
const unused = { type: 'fixed-size', numSlots: 2 } as const;

/** @param places which the jobs of several queues may share */
export const jobWorkerOptions = (places: JobSlots): Omit<WorkerOptions, 'taskQueue'> => ({
  tuner: {
    activityTaskSlotSupplier: places,
    localActivityTaskSlotSupplier: unused,
    workflowTaskSlotSupplier: unused,
    nexusTaskSlotSupplier: unused,
  },
  maxConcurrentActivityTaskPolls: 1,
  // How soon a job hears that it is asked to stop.
  maxHeartbeatThrottleInterval: '2 seconds',
});
