/** @file Identity of entries, and the check that a receipt belongs to a node. Pure but for hashing. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { accountOf, chargesOf } from '../../schemas/charges.ts';
import { jsonDigest } from '../../schemas/canonical-json.ts';
import type { Mechanism, PlanNode } from '../../schemas/plan.ts';
import type { EnvelopeEntry, Ledger, Receipt } from './ledger.ts';

/** Retries, re-runs and resumed workflows come to the same id, and so are charged once. */
export const entryId = (workflowId: string, entry: Pick<EnvelopeEntry, 'nodeKey' | 'keyEpoch' | 'dataset'>): string =>
  jsonDigest([workflowId, entry.nodeKey, entry.keyEpoch, entry.dataset]);

/** Ties a mechanism to the data and the delta that it is accounted for at: see `NodePrivacy.digest`. */
export const sealMechanism = (data: { digest: string; delta: number }, mechanism: Mechanism): string =>
  jsonDigest({ dataset: data.digest, delta: data.delta, mechanism });

export const receiptOf = (workflowId: string, entry: EnvelopeEntry): Receipt => ({
  entryId: entryId(workflowId, entry),
  workflowId,
  dataset: entry.dataset,
  nodeKey: entry.nodeKey,
  mechanismDigest: entry.mechanismDigest,
});

/** Throws RECEIPT_INVALID unless there is one receipt for each charge of the node, in their order, and no other. */
export function checkReceipts(
  receipts: readonly Receipt[],
  node: Pick<PlanNode, 'id' | 'key' | 'privacy' | 'release'>,
): void {
  const charges = chargesOf(node);
  const refuse = (fault: string): never => {
    throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} ${fault}.`);
  };
  if (charges.length === 0 && receipts.length > 0) refuse('is not a private node, yet was given a receipt');
  if (receipts.length !== charges.length) refuse(`has ${receipts.length} receipts for ${charges.length} charges`);
  if (new Set(receipts.map(({ entryId: id }) => id)).size < receipts.length) refuse('has one receipt twice');
  for (const [index, receipt] of receipts.entries()) {
    const charge = charges[index]!;
    if (receipt.nodeKey !== node.key) refuse('has another content key than its receipt');
    if (receipt.mechanismDigest !== charge.digest) refuse('has another mechanism than its receipt');
    if (receipt.dataset !== accountOf(charge)) refuse('reads another dataset than its receipt');
  }
}

/** Whether one of the entries is committed or was released: then its step needs no noise key, and may have none. */
export async function isAnyClosed(ledger: Pick<Ledger, 'entryState'>, receipts: readonly Receipt[]): Promise<boolean> {
  for (const receipt of receipts) {
    const state = await ledger.entryState(receipt);
    if (state === 'committed' || state === 'released') return true;
  }
  return false;
}
