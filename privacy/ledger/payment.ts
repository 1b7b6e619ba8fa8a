/** @file Whether a stored result may be used again: this ledger must know all the spending behind it. */

import type { CommittedEntry, Ledger } from './ledger.ts';

/**
 * The committed entries that paid for a result, by content key of the node that each was charged for. Null unless they
 * are all in this ledger and belong to just the private nodes that the plan names behind the result.
 *
 * @param paidBy ids of ledger entries, as the result's manifest names them.
 * @param paidKeys content keys of the private nodes behind the result.
 */
export async function paymentOf(
  ledger: Pick<Ledger, 'committedEntries'>,
  paidBy: readonly string[] = [],
  paidKeys: readonly string[],
): Promise<Map<string, CommittedEntry> | null> {
  if (paidBy.length === 0) return paidKeys.length === 0 ? new Map() : null;
  const entries = await ledger.committedEntries(paidBy);
  if (entries.size !== new Set(paidBy).size) return null;
  const byKey = new Map([...entries.values()].map((entry) => [entry.nodeKey, entry]));
  return byKey.size === paidKeys.length && paidKeys.every((key) => byKey.has(key)) ? byKey : null;
}
