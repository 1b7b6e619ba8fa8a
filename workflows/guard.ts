/**
 * @file Guard of the privacy invariant inside workflow code: a private node may start only with a receipt of the
 * ledger that was given out for exactly this node and mechanism, and each receipt works once. Pure; compares strings
 * only, so that it decides alike at every replay. `admit` costs the same for any number of nodes: the guard that it is
 * given is spent, only the returned one may be used.
 */

import type { PlannedNode, StepReceipt } from '../activities/contract.ts';

export interface Guard {
  /** Private nodes of the plan by content key. */
  readonly planned: ReadonlyMap<string, PlannedNode>;
  readonly receipts: ReadonlyMap<string, StepReceipt>;
  /** Entry ids of receipts that a node has started with. */
  readonly used: Set<string>;
}

export type Admission = { admitted: true; guard: Guard; receipt: StepReceipt } | { admitted: false; reason: string };

/** The first node of a content key is the one that is planned; its twins take over its result. */
export function createGuard(nodes: readonly PlannedNode[]): Guard {
  const planned = new Map<string, PlannedNode>();
  for (const node of nodes) if (node.charge && !planned.has(node.key)) planned.set(node.key, node);
  return { planned, receipts: new Map(), used: new Set() };
}

/** Takes over what the ledger gave out. Refuses a receipt that no planned private node asked for. */
export function acceptReceipts(
  guard: Guard,
  workflowId: string,
  receipts: readonly StepReceipt[],
): { accepted: true; guard: Guard } | { accepted: false; reason: string } {
  const all = new Map(guard.receipts);
  for (const receipt of receipts) {
    const node = guard.planned.get(receipt.nodeKey);
    if (!node?.charge) return refuse(receipt, 'is for no private node of this plan');
    if (receipt.workflowId !== workflowId) return refuse(receipt, `belongs to ${receipt.workflowId}`);
    if (receipt.dataset !== node.charge.dataset) return refuse(receipt, `is for the dataset ${receipt.dataset}`);
    if (receipt.mechanismDigest !== node.charge.mechanismDigest) return refuse(receipt, 'is for another mechanism');
    if (all.has(receipt.nodeKey)) return refuse(receipt, 'repeats one for the same node');
    all.set(receipt.nodeKey, receipt);
  }
  return { accepted: true, guard: { ...guard, receipts: all } };
}

/** Asks whether a private node may start; on admission its receipt is used up. */
export function admit(guard: Guard, node: PlannedNode): Admission {
  const planned = guard.planned.get(node.key);
  if (planned?.id !== node.id) return { admitted: false, reason: `${node.id} is not a private node of this plan` };
  const receipt = guard.receipts.get(node.key);
  if (!receipt) return { admitted: false, reason: `${node.id} has no receipt of the ledger` };
  if (guard.used.has(receipt.entryId)) return { admitted: false, reason: `the receipt of ${node.id} was used before` };
  guard.used.add(receipt.entryId);
  return { admitted: true, receipt, guard };
}

const refuse = (receipt: StepReceipt, problem: string): { accepted: false; reason: string } => ({
  accepted: false,
  reason: `the receipt ${receipt.entryId} ${problem}`,
});
