/** @file Identity of entries, and the check that a receipt belongs to a node. Pure but for hashing. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import { jsonDigest } from '../../schemas/canonical-json.ts';
import type { PlanNode } from '../../schemas/plan.ts';
import type { EnvelopeEntry, Receipt } from './ledger.ts';

/** Retries, re-runs and resumed workflows come to the same id, and so are charged once. */
export const entryId = (workflowId: string, entry: EnvelopeEntry): string =>
  jsonDigest([workflowId, entry.nodeKey, entry.keyEpoch, entry.dataset]);

export const receiptOf = (workflowId: string, entry: EnvelopeEntry): Receipt => ({
  entryId: entryId(workflowId, entry),
  workflowId,
  dataset: entry.dataset,
  nodeKey: entry.nodeKey,
  mechanismDigest: entry.mechanismDigest,
});

/** Throws RECEIPT_INVALID unless `receipt` is for exactly this node and mechanism. */
export function checkReceipt(receipt: Receipt, node: Pick<PlanNode, 'id' | 'key' | 'privacy'>): void {
  const { privacy } = node;
  const fault =
    privacy === undefined
      ? 'is not a private node'
      : receipt.nodeKey !== node.key
        ? 'has another content key than its receipt'
        : receipt.mechanismDigest !== privacy.digest
          ? 'has another mechanism than its receipt'
          : receipt.dataset !== privacy.dataset
            ? 'reads another dataset than its receipt'
            : null;
  if (fault !== null) throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} ${fault}.`);
}
