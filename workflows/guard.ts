/**
 * @file Guard of the privacy invariant inside workflow code: a private node may start only with one receipt of the
 * ledger for each of its charges, given out for exactly this node and mechanism, and each receipt works once. Pure;
 * compares strings only, so that it decides alike at every replay. `admit` costs the same for any number of nodes: the
 * guard that it is given is spent, only the returned one may be used.
 */

import type { PlannedNode, StepReceipt } from '../activities/contract.ts';

export interface Guard {
  /** Private nodes of the plan by content key. */
  readonly planned: ReadonlyMap<string, PlannedNode>;
  /** By content key; within, by the place of the charge among the node's. */
  readonly receipts: ReadonlyMap<string, ReadonlyMap<number, StepReceipt>>;
  /** Entry ids of receipts that a node has started with. */
  readonly used: Set<string>;
}

export type Admission = { admitted: true; guard: Guard; receipts: StepReceipt[] } | { admitted: false; reason: string };

/** The first node of a content key is the one that is planned; its twins take over its result. */
export function createGuard(nodes: readonly PlannedNode[]): Guard {
  const planned = new Map<string, PlannedNode>();
  for (const node of nodes) if (node.charges.length > 0 && !planned.has(node.key)) planned.set(node.key, node);
  return { planned, receipts: new Map(), used: new Set() };
}

/** Whether a receipt is for the charge at a place among the node's. */
export function fits(receipt: StepReceipt, node: PlannedNode, place: number): boolean {
  const charge = node.charges[place];
  return (
    receipt.nodeKey === node.key &&
    receipt.mechanismDigest === charge?.mechanismDigest &&
    receipt.dataset === charge.dataset
  );
}

/** Takes over what the ledger gave out. Refuses a receipt that no charge of a planned private node asked for. */
export function acceptReceipts(
  guard: Guard,
  workflowId: string,
  receipts: readonly StepReceipt[],
): { accepted: true; guard: Guard } | { accepted: false; reason: string } {
  const all = new Map([...guard.receipts].map(([key, held]) => [key, new Map(held)]));
  for (const receipt of receipts) {
    const node = guard.planned.get(receipt.nodeKey);
    if (!node) return refuse(receipt, 'is for no private node of this plan');
    if (receipt.workflowId !== workflowId) return refuse(receipt, `belongs to ${receipt.workflowId}`);
    const onAccount = node.charges.some(({ dataset }) => dataset === receipt.dataset);
    if (!onAccount) return refuse(receipt, `is for the dataset ${receipt.dataset}`);
    const place = node.charges.findIndex((_, index) => fits(receipt, node, index));
    if (place < 0) return refuse(receipt, 'is for another mechanism');
    const held = all.get(node.key) ?? new Map<number, StepReceipt>();
    if (held.has(place)) return refuse(receipt, 'repeats one for the same charge');
    all.set(node.key, held.set(place, receipt));
  }
  return { accepted: true, guard: { ...guard, receipts: all } };
}

/** Asks whether a private node may start; on admission its receipts are used up. */
export function admit(guard: Guard, node: PlannedNode): Admission {
  const planned = guard.planned.get(node.key);
  if (planned?.id !== node.id) return { admitted: false, reason: `${node.id} is not a private node of this plan` };
  const held = guard.receipts.get(node.key);
  const receipts: StepReceipt[] = [];
  for (const [place, { dataset }] of planned.charges.entries()) {
    const receipt = held?.get(place);
    if (!receipt) return { admitted: false, reason: `${node.id} has no receipt of the ledger for ${dataset}` };
    if (guard.used.has(receipt.entryId) || receipts.some(({ entryId }) => entryId === receipt.entryId)) {
      return { admitted: false, reason: `the receipt of ${node.id} for ${dataset} was used before` };
    }
    receipts.push(receipt);
  }
  for (const { entryId } of receipts) guard.used.add(entryId);
  return { admitted: true, receipts, guard };
}

const refuse = (receipt: StepReceipt, problem: string): { accepted: false; reason: string } => ({
  accepted: false,
  reason: `the receipt ${receipt.entryId} ${problem}`,
});
