/** @file The rows of the chain that tell of some entries: evidence for those who don't have the ledger. */

import type { ChainedRow } from './chain.ts';
import type { LedgerTransaction } from './writer.ts';

/** Databases bound the number of parameters of a query. */
const idsAQuery = 500;

/**
 * Rows, without their private payloads, of the workflow's entries and of the given ones, those of their accounts that concern no entry, and what was
 * acknowledged as lost, in order.
 * One pass over the chain.
 */
export async function rowsBehind(
  transaction: LedgerTransaction,
  workflowId: string,
  entryIds: readonly string[],
): Promise<ChainedRow[]> {
  const own = await transaction
    .selectFrom('entries')
    .select(['id', 'account'])
    .where('workflow_id', '=', workflowId)
    .execute();
  const accountOf = new Map(own.map(({ id, account }) => [id, account]));
  for (let from = 0; from < entryIds.length; from += idsAQuery) {
    const part = entryIds.slice(from, from + idsAQuery);
    const found = await transaction.selectFrom('entries').select(['id', 'account']).where('id', 'in', part).execute();
    for (const { id, account } of found) accountOf.set(id, account);
  }
  // Rows without an account acknowledge losses, which concern all.
  const accounts = ['', ...new Set(accountOf.values())];
  const rows = new Map<number, ChainedRow>();
  // Private payloads are left out: they name other experiments, noise keys and sizes of batches.
  const select = transaction
    .selectFrom('ledger_rows')
    .select(['sequence', 'time', 'kind', 'account', 'entry_id', 'payload', 'previous_hash', 'hash']);
  const add = (found: Awaited<ReturnType<typeof select.execute>>): void => {
    for (const { entry_id: entryId, previous_hash: previousHash, ...rest } of found) {
      const sequence = Number(rest.sequence);
      rows.set(sequence, { ...rest, sequence, entryId, previousHash });
    }
  };
  const ids = [...accountOf.keys()];
  for (let from = 0; from < ids.length; from += idsAQuery) {
    add(await select.where('entry_id', 'in', ids.slice(from, from + idsAQuery)).execute());
  }
  for (let from = 0; from < accounts.length; from += idsAQuery) {
    const part = accounts.slice(from, from + idsAQuery);
    add(await select.where('entry_id', 'is', null).where('account', 'in', part).execute());
  }
  return [...rows.values()].sort((a, b) => a.sequence - b.sequence);
}
