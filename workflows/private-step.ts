/** @file A private node as a workflow of its own: nothing runs without a receipt, and what ran is committed once. */

import { CancellationScope, workflowInfo } from '@temporalio/workflow';
import type { PrivateStepInput, StepOutcome } from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { committing, control } from './control.ts';
import { ExperimentChild } from './experiment-child.ts';
import { workflowFailure } from './failures.ts';
import { fits } from './guard.ts';
import { Pause } from './pause.ts';
import { endOf } from './step-end.ts';
import { runStep } from './steps.ts';

/** Runs the node and reports its end to the experiment. */
export async function privateStep(input: PrivateStepInput): Promise<StepOutcome> {
  const { run, node, tie } = input;
  if (!tie) return runPaid(input);
  const child = new ExperimentChild(run, tie, 1);
  let opened: KnownHead | null = null;
  try {
    const outcome = await child.whileItRuns(() => runPaid(input, child.pause, (head) => (opened = head)));
    child.tell(endOf(node.id), outcome.ledgerHead);
    return outcome;
  } catch (error) {
    child.tell(endOf(node.id, error), opened);
    throw error;
  } finally {
    await child.told();
  }
}

/**
 * Opens the step (its noise key exists from here on), runs it, and commits what the trainer did. A step that failed
 * or was cancelled is closed: its key and checkpoints are destroyed, and the ledger keeps what it has begun to spend.
 *
 * @param onOpened gets the ledger's newest row once the step is open
 */
async function runPaid(
  { run, node, receipts, ledgerHead }: PrivateStepInput,
  pause = new Pause(),
  onOpened: (head: KnownHead) => void = () => undefined,
): Promise<StepOutcome> {
  const paid = receipts.length === node.charges.length && receipts.every((receipt, i) => fits(receipt, node, i));
  if (receipts.length === 0 || !paid) {
    throw workflowFailure('RECEIPT_INVALID', `${node.id} was started without a receipt for each of its charges.`);
  }
  try {
    const opened = await control.openPrivateStep(run, receipts, ledgerHead, workflowInfo().workflowId);
    onOpened(opened);
    const request = { run, nodeId: node.id, receipts, ledgerHead: opened };
    const outcome = await pause.around((pauses) => runStep(node, { ...request, pauses }));
    // The result is visible from here on: a cancellation must not come between it and its commit.
    const committed = await CancellationScope.nonCancellable(() => committing.commitPrivateStep(request, outcome));
    return { ...outcome, ledgerHead: committed };
  } catch (error) {
    await CancellationScope.nonCancellable(() => control.closePrivateStep(run, receipts));
    throw error;
  }
}
