/** @file Task queues of Temporal. */

/** Where light work is done, and where jobs that fill the processor are. */
export const taskQueues = { control: 'control', cpu: 'cpu' } as const;
