/** @file The right to run a private step: a ledger entry that was reserved for it, begun by this attempt. */

import { checkReceipt, proofDifference, type FencingToken } from '../privacy/ledger/index.ts';
import type { MechanismProof } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanNode } from '../schemas/plan.ts';
import type { StepReceipt } from './contract.ts';
import { failpoint } from './failpoints.ts';
import type { WorkerParts } from './worker-parts.ts';

/** The right to run a private node: its ledger entry, begun by this attempt, which fences earlier ones off. */
export interface Authority {
  receipt: StepReceipt;
  token: FencingToken;
  announceStep(step: number, stateDigest: string): Promise<void>;
  checkFence(): Promise<void>;
}

/** @throws EpsilonflowError RECEIPT_INVALID */
export async function takeAuthority(
  parts: WorkerParts,
  node: PlanNode,
  receipt: StepReceipt | null,
  attempt: number,
): Promise<Authority | null> {
  if (!node.privacy) {
    if (receipt)
      throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} spends no privacy, yet was given a receipt.`);
    return null;
  }
  if (!receipt) {
    throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} was started without a receipt for its mechanism.`, {
      hint: 'Private steps run only as part of an experiment, which reserves their budget first.',
    });
  }
  checkReceipt(receipt, node);
  const ledger = await parts.ledger();
  const token = await ledger.begin(receipt, attempt);
  failpoint('begun');
  return {
    receipt,
    token,
    announceStep: (step, stateDigest) => ledger.recordStep(receipt, token, step, stateDigest),
    checkFence: () => ledger.checkFence(receipt, token),
  };
}

/**
 * The commit compares this again; here it keeps a wrong result from becoming visible.
 *
 * @throws EpsilonflowError MECHANISM_MISMATCH
 */
export function checkProof(node: PlanNode, proof: MechanismProof | null): void {
  const difference = proofDifference(node.privacy!.mechanism, proof);
  if (difference === null) return;
  throw new EpsilonflowError(
    'MECHANISM_MISMATCH',
    `What ${node.id} did is not the mechanism that was reserved for it: ${difference}.`,
    {
      hint: 'Its result is not published. This is a fault of the step: please report it.',
    },
  );
}
