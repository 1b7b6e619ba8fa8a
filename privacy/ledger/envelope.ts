/** @file From charges of a plan to what the ledger is asked for. Pure. */

import { accountOf, splitOfAccount } from '../../schemas/charges.ts';
import type { NodeCharge, PlanDataset, PlanNode } from '../../schemas/plan.ts';
import type { EnvelopeAccount, EnvelopeEntry } from './ledger.ts';

/**
 * The account of a dataset's training or test records. The dataset's budget holds for each of them: no record is in
 * both splits, so no record pays more than the budget.
 */
export function envelopeAccount(account: string, datasets: Readonly<Record<string, PlanDataset>>): EnvelopeAccount {
  const { digest, privacy, sensitivity } = datasets[splitOfAccount(account).dataset]!;
  return {
    dataset: account,
    digest,
    delta: privacy!.delta,
    budget: privacy!.budget,
    benchmark: sensitivity === 'benchmark',
  };
}

export const envelopeEntry = (
  node: Pick<PlanNode, 'id' | 'key'>,
  charge: NodeCharge,
  keyEpoch: number,
): EnvelopeEntry => ({
  dataset: accountOf(charge),
  nodeId: node.id,
  nodeKey: node.key,
  keyEpoch,
  mechanism: charge.mechanism,
  mechanismDigest: charge.digest,
});
