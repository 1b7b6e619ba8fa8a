/** @file One writing transaction of the ledger: rows for the chain and the tables computed from them. */

import type { Transaction } from 'kysely';

import { canonicalJson, jsonDigest } from '../../schemas/canonical-json.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { mechanismEvent } from './admission.ts';
import { chainRow, type ChainHead, type LedgerFact } from './chain.ts';
import type { EntryState } from './ledger.ts';
import type { LedgerTables } from './schema.ts';

export type LedgerTransaction = Transaction<LedgerTables>;
export type EntryRow = LedgerTables['entries'];

/** Appends facts to the chain and applies a change of entries, holdings and accounts, all or nothing. */
export class LedgerWriter {
  readonly transaction: LedgerTransaction;
  #head: ChainHead;
  readonly time = new Date().toISOString();

  constructor(transaction: LedgerTransaction, head: ChainHead) {
    this.transaction = transaction;
    this.#head = head;
  }

  async append(fact: LedgerFact): Promise<void> {
    const row = chainRow(this.#head, fact, this.time);
    this.#head = { sequence: row.sequence, hash: row.hash };
    const { entryId: entry_id, previousHash: previous_hash, ...rest } = row;
    await this.transaction
      .insertInto('ledger_rows')
      .values({ ...rest, entry_id, previous_hash })
      .execute();
    await this.transaction.updateTable('ledger_head').set(this.#head).execute();
  }

  /** Adds `sign` times one application of a mechanism to what the account holds. */
  async hold(account: string, mechanism: Mechanism, sign: 1 | -1): Promise<void> {
    const event = mechanismEvent(mechanism);
    const count = sign * (event?.count ?? 1);
    const kind = event === null ? null : { ...event, count: 1 };
    const key = kind === null ? 'unbounded' : jsonDigest(kind);
    await this.transaction
      .insertInto('holdings')
      .values({ account, mechanism_key: key, event: canonicalJson(kind), count })
      .onConflict((conflict) =>
        conflict
          .columns(['account', 'mechanism_key'])
          .doUpdateSet((row) => ({ count: row('holdings.count', '+', count) })),
      )
      .execute();
  }

  async move(entry: EntryRow, change: Partial<EntryRow> & { state: EntryState }, payload: LedgerFact['payload']) {
    await this.transaction
      .updateTable('entries')
      .set({ ...change, changed_at: this.time })
      .where('id', '=', entry.id)
      .execute();
    await this.append({ kind: change.state, account: entry.account, entryId: entry.id, payload });
  }
}
