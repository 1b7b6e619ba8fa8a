/** @file Which ledger entry a statement names for a charge, as evidence tells it. Pure. */

import { accountOf, chargeName, chargeNameOf } from '../../schemas/charges.ts';
import type { NodeCharge, PlanNode } from '../../schemas/plan.ts';
import type { ResultEvidence } from './bundle.ts';

type EntryOf = (node: PlanNode, charge: NodeCharge) => string | null;

/** Of a run: those of each result's own step. */
export function ownEntries(results: readonly ResultEvidence[]): EntryOf {
  const known = new Map(
    results.flatMap(({ node, charges }) =>
      charges.map(({ dataset, mechanismDigest, entryId }) => [`${node}\n${dataset}\n${mechanismDigest}`, entryId]),
    ),
  );
  return (node, charge) => known.get(`${node.id}\n${accountOf(charge)}\n${charge.digest}`) ?? null;
}

/** Of a release: those that paid for it, which may be of steps whose results are not there. */
export function paidEntries(
  entries: Iterable<readonly [id: string, entry: { nodeKey: string; mechanismDigest: string }]>,
): EntryOf {
  const known = new Map([...entries].map(([id, entry]) => [chargeName(entry), id]));
  return (node, charge) => known.get(chargeNameOf(node, charge)) ?? null;
}
