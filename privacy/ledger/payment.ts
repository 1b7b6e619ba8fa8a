/** @file Whether a stored result may be used again: this ledger must know all the spending behind it. */

import { chargeName } from '../../schemas/charges.ts';
import type { CommittedEntry, Ledger } from './ledger.ts';

/**
 * The committed entries that paid for a result, by name of the charge that each was made for. Null unless they are all
 * in this ledger and belong to just the charges that the plan names behind the result.
 *
 * @param paidBy ids of ledger entries, as the result's manifest names them.
 * @param charges names of the charges behind the result, each once.
 */
export async function paymentOf(
  ledger: Pick<Ledger, 'committedEntries'>,
  paidBy: readonly string[] = [],
  charges: readonly string[],
): Promise<Map<string, CommittedEntry> | null> {
  if (paidBy.length === 0) return charges.length === 0 ? new Map() : null;
  const entries = await ledger.committedEntries(paidBy);
  if (entries.size !== new Set(paidBy).size) return null;
  const byCharge = new Map([...entries.values()].map((entry) => [chargeName(entry), entry]));
  return byCharge.size === charges.length && charges.every((charge) => byCharge.has(charge)) ? byCharge : null;
}
