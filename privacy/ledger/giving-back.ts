/** @file Giving back what the ended run of a workflow did not use. */

import { stepsRecorded } from './attempts.ts';
import { mechanismOf } from './reservation.ts';
import type { RememberedSteps } from './ledger.ts';
import type { EntryRow, LedgerTransaction, LedgerWriter } from './writer.ts';

/**
 * Ends the attempts of a workflow and gives back what it did not use; returns the number of entries that gave something
 * back.
 *
 * An account that ever admitted anything by its tight figure alone gives nothing back once something has begun there:
 * see docs/privacy.md. Of a begun entry only the steps that no attempt recorded can be given back, and only where all
 * of its steps were recorded from the first on.
 */
export async function giveBack(writer: LedgerWriter, workflowId: string, known: RememberedSteps): Promise<number> {
  const { transaction } = writer;
  const entries = await transaction
    .selectFrom('entries')
    .selectAll()
    .where('workflow_id', '=', workflowId)
    .where('state', 'in', ['reserved', 'begun'])
    .orderBy('id')
    .$if(writer.isPostgres, (query) => query.forUpdate())
    .execute();
  let concerned = 0;
  for (const account of new Set(entries.map((entry) => entry.account))) {
    const keepsAll = await keepsWhole(transaction, account);
    for (const entry of entries) {
      if (entry.account !== account) continue;
      // It has begun, and the ledger lacks that: it stays as it is, charged whole.
      if (entry.state === 'reserved' && (known.records.get(entry.id) ?? 0) > 0) continue;
      const gaveBack =
        entry.state === 'reserved'
          ? await release(writer, entry, keepsAll)
          : await reduce(writer, await endAttempts(writer, entry), {
              keepsAll: keepsAll || mayLackRecords(entry, known),
            });
      if (gaveBack) concerned += 1;
    }
    if (await holdsNothing(transaction, account)) {
      await transaction
        .updateTable('accounts')
        .set({ fixed_plan: null, whole: 0 })
        .where('name', '=', account)
        .execute();
    }
  }
  return concerned;
}

/** No record is what an older copy of the ledger shows too: only whoever has the one key that could record knows. */
function mayLackRecords({ id, records, key_fingerprint: key }: EntryRow, known: RememberedSteps): boolean {
  if (records === 0 && (key === null || known.ownKeys.get(id) !== key)) return true;
  return (known.records.get(id) ?? 0) > records;
}

async function release(writer: LedgerWriter, entry: EntryRow, keepsAll: boolean): Promise<true> {
  const { id, account } = entry;
  const charged = keepsAll ? entry.charged : 0;
  await writer.update(entry, { state: 'released', charged });
  await writer.hold(account, [{ mechanism: mechanismOf(entry), applications: charged - entry.charged }]);
  await writer.append({ kind: 'released', account, entryId: id, payload: { reason: 'never begun', charged } });
  return true;
}

/** Fences the attempts of a begun entry off, whether or not it gives anything back. */
async function endAttempts(writer: LedgerWriter, entry: EntryRow): Promise<EntryRow> {
  if (entry.ended === 1) return entry;
  const change = { fence: entry.fence + 1, ended: 1 };
  await writer.update(entry, change);
  const { id, account, records, records_hash: recordsHash } = entry;
  await writer.append({ kind: 'ended', account, entryId: id, payload: { token: change.fence, records, recordsHash } });
  return { ...entry, ...change };
}

async function reduce(writer: LedgerWriter, entry: EntryRow, { keepsAll }: { keepsAll: boolean }): Promise<boolean> {
  const { id, account, fence: token, records, records_hash: recordsHash } = entry;
  const isLess = !keepsAll && records < entry.charged && (await isRecordedFromTheFirst(writer.transaction, entry));
  if (!isLess) return false;
  await writer.update(entry, { charged: records });
  await writer.hold(account, [{ mechanism: mechanismOf(entry), applications: records - entry.charged }]);
  const payload = { reason: 'the run ended', token, charged: records, records, recordsHash };
  await writer.append({ kind: 'reduced', account, entryId: id, payload });
  return true;
}

/**
 * What may have used steps that are not recorded counts whole; how many records there are says nothing of that, for
 * steps are repeated. A mechanism without bound has no records.
 */
async function isRecordedFromTheFirst(transaction: LedgerTransaction, entry: EntryRow): Promise<boolean> {
  if (mechanismOf(entry).kind === 'unbounded') return false;
  return (await stepsRecorded(transaction, entry)) === entry.steps_started;
}

async function keepsWhole(transaction: LedgerTransaction, account: string): Promise<boolean> {
  const begun = await transaction
    .selectFrom('accounts')
    .innerJoin('entries', 'entries.account', 'accounts.name')
    .select('entries.id')
    .where('accounts.name', '=', account)
    .where('accounts.whole', '=', 1)
    .where('entries.charged', '>', 0)
    .where('entries.fence', '>', 0)
    .limit(1)
    .executeTakeFirst();
  return begun !== undefined;
}

async function holdsNothing(transaction: LedgerTransaction, account: string): Promise<boolean> {
  const held = await transaction
    .selectFrom('holdings')
    .select('count')
    .where('account', '=', account)
    .where('count', '<>', 0)
    .limit(1)
    .executeTakeFirst();
  return held === undefined;
}
