/** @file Entry of the workflow bundle: what is exported here is registered with the worker. */

export { experimentWorkflow, statusQuery } from './experiment.ts';
export { privateStep } from './private-step.ts';
export { scheduledRun } from './scheduled-run.ts';
export { stepBatch } from './step-batch.ts';
