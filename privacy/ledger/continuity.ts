/** @file Whether a ledger is the one that others remember, with all that was ever in it. */

import type { Discontinuity, KnownHead, LedgerLoss, LedgerMemory } from './ledger.ts';
import type { LedgerTransaction, LedgerWriter } from './writer.ts';

/** Databases bound the number of parameters of a query. */
const rowsAQuery = 500;

/** The random id that was made with the ledger's tables. */
export async function ledgerIdentity(transaction: LedgerTransaction): Promise<string> {
  const { ledger } = await transaction.selectFrom('ledger_identity').select('ledger').executeTakeFirstOrThrow();
  return ledger;
}

/**
 * Remembered heads whose row the chain does not hold: those of other ledgers, and those that lie beyond its end or on
 * another branch; and a secret that is not the one which the row hashes are under. What was acknowledged is left out.
 */
export async function findDiscontinuities(
  transaction: LedgerTransaction,
  { heads, rowKey }: LedgerMemory,
): Promise<Discontinuity[]> {
  const { ledger, row_key: known } = await transaction
    .selectFrom('ledger_identity')
    .select(['ledger', 'row_key'])
    .executeTakeFirstOrThrow();
  const found: Discontinuity[] = [];
  const hashes = await hashesOf(transaction, heads);
  for (const expected of heads) {
    if (expected.ledger !== ledger) found.push({ problem: 'exchanged', expected });
    else if (expected.sequence > 0 && hashes.get(expected.sequence) !== expected.hash) {
      found.push({ problem: 'rolled-back', expected });
    }
  }
  if (known !== null && rowKey !== null && known !== rowKey) {
    found.push({ problem: 'secret-lost', expected: { key: known }, found: { key: rowKey } });
  }
  if (found.length === 0) return found;
  const acknowledged = await acknowledgedBefore(transaction);
  return found.filter((one) => !acknowledged.has(nameOf(one)));
}

/** Hashes of the rows at the places of heads, by sequence number. */
async function hashesOf(transaction: LedgerTransaction, heads: readonly KnownHead[]): Promise<Map<number, string>> {
  const sequences = [...new Set(heads.map(({ sequence }) => sequence))];
  const hashes = new Map<number, string>();
  for (let from = 0; from < sequences.length; from += rowsAQuery) {
    const rows = await transaction
      .selectFrom('ledger_rows')
      .select(['sequence', 'hash'])
      .where('sequence', 'in', sequences.slice(from, from + rowsAQuery))
      .execute();
    for (const { sequence, hash } of rows) hashes.set(Number(sequence), hash);
  }
  return hashes;
}

/** What a row says that acknowledges a loss, but for the reasons. */
type Acknowledged =
  { problem: 'exchanged' | 'rolled-back'; expected: KnownHead } | Extract<Discontinuity, { problem: 'secret-lost' }>;

/** One who lost a ledger has lost all of its rows; one who lost rows or a secret may lose others later. */
function nameOf(one: Acknowledged): string {
  if (one.problem === 'secret-lost') return `${one.expected.key}/${one.found.key}`;
  const { ledger, sequence, hash } = one.expected;
  return one.problem === 'exchanged' ? ledger : `${ledger}/${sequence}/${hash}`;
}

async function acknowledgedBefore(transaction: LedgerTransaction): Promise<Set<string>> {
  const rows = await acknowledgements(transaction);
  const older = rows.flatMap((row) =>
    row.problem === 'secret-lost'
      ? []
      : (row.older ?? []).map((expected) => nameOf({ problem: row.problem, expected })),
  );
  return new Set([...rows.map(nameOf), ...older]);
}

/** `older`: more rows that are lost with the expected one, each of which someone remembers. */
type Acknowledgement = Acknowledged & { older?: KnownHead[]; author: string; reason: string; row: number };

async function acknowledgements(transaction: LedgerTransaction): Promise<Acknowledgement[]> {
  const rows = await transaction
    .selectFrom('ledger_rows')
    .select(['sequence', 'payload'])
    .where('kind', '=', 'acknowledged')
    .orderBy('sequence')
    .execute();
  return rows.map(({ sequence, payload }) => ({
    ...(JSON.parse(payload) as Omit<Acknowledgement, 'row'> & Acknowledged),
    row: Number(sequence),
  }));
}

/** What was acknowledged as lost, in the order of its rows. */
export async function acknowledgedLosses(transaction: LedgerTransaction): Promise<LedgerLoss[]> {
  const found = await acknowledgements(transaction);
  return found.map(({ problem, row, author, reason }) => ({ problem, row, author, reason }));
}

/**
 * Appends a row for each ledger that is another one, for all rows together that are lost, and for a lost secret; their
 * account is empty, since they concern all. After a lost secret new row hashes are under the
 * new one, and have nothing in common with the old ones: only names join old and new data then.
 */
export async function acknowledgeDiscontinuities(
  writer: LedgerWriter,
  found: readonly Discontinuity[],
  why: { author: string; reason: string },
): Promise<void> {
  const append = (payload: object): Promise<void> =>
    writer.append({ kind: 'acknowledged', account: '', entryId: null, payload: { ...payload, ...why } });
  const lost: KnownHead[] = [];
  for (const one of found) {
    if (one.problem === 'secret-lost') {
      await writer.transaction.updateTable('ledger_identity').set({ row_key: one.found.key }).execute();
      await append(one);
      continue;
    }
    const { ledger, sequence, hash } = one.expected;
    if (one.problem === 'rolled-back') lost.push({ ledger, sequence, hash });
    else await append({ problem: one.problem, expected: { ledger, sequence, hash } });
  }
  const [expected, ...older] = lost.sort((a, b) => b.sequence - a.sequence);
  if (expected) await append({ problem: 'rolled-back', expected, ...(older.length > 0 && { older }) });
}
