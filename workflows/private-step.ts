/** @file A private node as a workflow of its own: nothing runs without a receipt, and what ran is committed once. */

import { CancellationScope, executeChild, ParentClosePolicy, workflowInfo } from '@temporalio/workflow';
import type { PrivateStepInput, StepOutcome } from '../activities/contract.ts';
import { committing, control } from './control.ts';
import { workflowFailure } from './failures.ts';
import { fits } from './guard.ts';
import { runStep } from './steps.ts';

/**
 * Opens the step (its noise key exists from here on), runs it, and commits what the trainer did. A step that failed
 * or was cancelled is closed: its key and checkpoints are destroyed, and the ledger keeps what it has begun to spend.
 */
export async function privateStep({ run, node, receipts, ledgerHead }: PrivateStepInput): Promise<StepOutcome> {
  const paid = receipts.length === node.charges.length && receipts.every((receipt, i) => fits(receipt, node, i));
  if (receipts.length === 0 || !paid) {
    throw workflowFailure('RECEIPT_INVALID', `${node.id} was started without a receipt for each of its charges.`);
  }
  try {
    const opened = await control.openPrivateStep(run, receipts, ledgerHead);
    const request = { run, nodeId: node.id, receipts, ledgerHead: opened };
    const outcome = await runStep(node, request);
    // The result is visible from here on: a cancellation must not come between it and its commit.
    const committed = await CancellationScope.nonCancellable(() => committing.commitPrivateStep(request, outcome));
    return { ...outcome, ledgerHead: committed };
  } catch (error) {
    await CancellationScope.nonCancellable(() => control.closePrivateStep(run, receipts));
    throw error;
  }
}

/** Starts `privateStep` as a child of the calling workflow and waits for its end. */
export function runPrivateStep(input: PrivateStepInput): Promise<StepOutcome> {
  return executeChild(privateStep, {
    args: [input],
    workflowId: `${workflowInfo().workflowId}/${input.node.slug}`,
    staticSummary: input.node.id,
    parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
  });
}
