/** @file The workflow of an experiment: prepares, runs every node as soon as its inputs are there, and concludes. */

import { CancellationScope, continueAsNew, defineQuery, defineUpdate, patched, setHandler } from '@temporalio/workflow';
import type { CarriedRun, ExperimentResult, ExperimentStatus, RunIdentity, RunLimits } from '../activities/contract.ts';
import type { Approval } from '../schemas/approvals.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { ChainedRun } from './chained-run.ts';
import { stepsEndedSignal } from './experiment-child.ts';
import { OneHistory } from './one-history.ts';

export const statusQuery = defineQuery<ExperimentStatus>('status');

/** Approves what waits for it; answers null when nothing does. */
export const approveUpdate = defineUpdate<Approval | null, [author: string, reason: string]>('approve');

/** Pauses the run, or lets it go on; answers whether that changes anything. */
export const setPausedUpdate = defineUpdate<boolean, [paused: boolean]>('setPaused');

/** Temporal warns at 10,240 events and ends a workflow at 51,200; 10 and 50 MB. */
const usualLimits: RunLimits = {
  events: 4_000,
  batch: 900,
  inFlight: 1_800,
  // Up to 3 KB each.
  paidTogether: 200,
  // With what stopping a whole batch adds, below the warning.
  batchEvents: 5_000,
  lookEvery: 600_000,
};

/** Of runs that were started before batches became larger. */
const smallBatches = { batch: 500, inFlight: 1_000 };

/** Of runs that were started before paid nodes started in groups. */
const ungrouped = { paidTogether: Infinity };

/** Of runs with limits that were started before a step could take over the place of the one before it. */
const ownPlaces = { ownPlaces: true };

/**
 * @param ledgerHead a row that the ledger held when the run was started; null when it spends no privacy
 * @param limits those that differ from the usual ones
 * @param carried what an earlier run of this workflow handed on
 * @returns what became of the nodes, when all of them completed
 * @throws ApplicationFailure of type STEP_FAILED, details `ExperimentResult`, when some did not; what kept the run from
 *   starting (the ledger's refusal) as it is; CancelledFailure when cancelled
 */
export async function experimentWorkflow(
  run: RunIdentity,
  ledgerHead: KnownHead | null = null,
  limits: Partial<RunLimits> = {},
  carried: CarriedRun | null = null,
): Promise<ExperimentResult> {
  if (!patched('children-report')) return inOneHistory(new OneHistory(run, ledgerHead));
  const usual = {
    ...usualLimits,
    ...(patched('large-batches') ? {} : smallBatches),
    ...(patched('paid-groups') ? {} : ungrouped),
    ...(limits.atATime && !patched('places-taken-over') ? ownPlaces : {}),
  };
  const experiment = new ChainedRun(run, ledgerHead, { ...usual, ...limits }, carried);
  setHandler(statusQuery, () => experiment.status());
  setHandler(stepsEndedSignal, (report) => experiment.hear(report));
  setHandler(approveUpdate, (author, reason) => experiment.approve(author, reason));
  setHandler(setPausedUpdate, (paused) => experiment.setPaused(paused));
  try {
    // What runs already must be heard, also when the run is cancelled.
    if (carried) await CancellationScope.nonCancellable(() => experiment.resume(carried));
    else await experiment.prepare();
    const next = await CancellationScope.nonCancellable(() => experiment.execute());
    if (next) return await continueAsNew<typeof experimentWorkflow>(run, experiment.knownHead(), limits, next);
  } catch (error) {
    experiment.stopBy(error);
  }
  await CancellationScope.nonCancellable(() => experiment.finish());
  return experiment.conclude();
}

async function inOneHistory(experiment: OneHistory): Promise<ExperimentResult> {
  setHandler(statusQuery, () => ({ ...experiment.status(), children: [] }));
  try {
    await experiment.prepare();
    await CancellationScope.nonCancellable(() => experiment.execute());
  } catch (error) {
    experiment.stopBy(error);
  }
  await CancellationScope.nonCancellable(() => experiment.finish());
  return experiment.conclude();
}
