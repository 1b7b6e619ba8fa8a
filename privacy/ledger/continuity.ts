/** @file Whether a ledger is the one that others remember, with all that was ever in it. */

import type { Discontinuity, KnownHead } from './ledger.ts';
import type { LedgerTransaction, LedgerWriter } from './writer.ts';

/** The random id that was made with the ledger's tables. */
export async function ledgerIdentity(transaction: LedgerTransaction): Promise<string> {
  const { ledger } = await transaction.selectFrom('ledger_identity').select('ledger').executeTakeFirstOrThrow();
  return ledger;
}

/**
 * Those of the remembered heads whose row the chain does not hold: heads of other ledgers, and heads that lie beyond
 * its end or on another branch. Those that were acknowledged are left out.
 */
export async function findDiscontinuities(
  transaction: LedgerTransaction,
  heads: readonly KnownHead[],
): Promise<Discontinuity[]> {
  const identity = await ledgerIdentity(transaction);
  const found: Discontinuity[] = [];
  for (const expected of heads) {
    if (expected.ledger !== identity) found.push({ problem: 'exchanged', expected });
    else if (!(await holds(transaction, expected))) found.push({ problem: 'rolled-back', expected });
  }
  if (found.length === 0) return found;
  const acknowledged = await acknowledgedHeads(transaction);
  return found.filter(({ problem, expected }) => !acknowledged.has(nameOf(problem, expected)));
}

async function holds(transaction: LedgerTransaction, { sequence, hash }: KnownHead): Promise<boolean> {
  if (sequence === 0) return true;
  const row = await transaction
    .selectFrom('ledger_rows')
    .select('hash')
    .where('sequence', '=', sequence)
    .executeTakeFirst();
  return row?.hash === hash;
}

/** One who lost a ledger has lost all of its rows; one who lost rows may lose others later. */
const nameOf = (problem: string, { ledger, sequence, hash }: KnownHead): string =>
  problem === 'exchanged' ? ledger : `${ledger}/${sequence}/${hash}`;

async function acknowledgedHeads(transaction: LedgerTransaction): Promise<Set<string>> {
  const rows = await transaction
    .selectFrom('ledger_rows')
    .select('payload')
    .where('kind', '=', 'acknowledged')
    .execute();
  return new Set(
    rows.map(({ payload }) => {
      const { problem, expected } = JSON.parse(payload) as Discontinuity;
      return nameOf(problem, expected);
    }),
  );
}

/** The account of these rows is empty: they concern all. */
export async function acknowledgeDiscontinuities(
  writer: LedgerWriter,
  found: readonly Discontinuity[],
  why: { author: string; reason: string },
): Promise<void> {
  for (const { problem, expected } of found) {
    const { ledger, sequence, hash } = expected;
    const payload = { problem, expected: { ledger, sequence, hash }, ...why };
    await writer.append({ kind: 'acknowledged', account: '', entryId: null, payload });
  }
}
