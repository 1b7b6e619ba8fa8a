/** @file Task queues of Temporal. */

/**
 * Where light work is done, where jobs that fill the processor are, and where those that ask for a card. Jobs on private
 * data have queues of their own where hosts share a store: see `activities/step-queue.ts`.
 */
export const taskQueues = { control: 'control', cpu: 'cpu', gpu: 'gpu' } as const;

/** Where work is done that needs specs, data and runs of one state folder. */
export const folderQueue = (folder: string): string => `${taskQueues.control}.${folder}`;
