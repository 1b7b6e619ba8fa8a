/** @file One writing transaction of the ledger: rows for the chain and the tables computed from them. */

import { randomBytes } from 'node:crypto';

import type { Transaction } from 'kysely';

import { canonicalJson, jsonDigest } from '../../schemas/canonical-json.ts';
import type { JsonValue, Mechanism } from '../../schemas/plan.ts';
import { applicationEvent, type Charge } from './admission.ts';
import { chainRow, type ChainHead, type LedgerFact } from './chain.ts';
import type { LedgerTables } from './schema.ts';

export type LedgerTransaction = Transaction<LedgerTables>;
export type EntryRow = LedgerTables['entries'];

/** Rows of one insert: databases bound the number of parameters of a statement. */
const rowsAnInsert = 100;

/** Names what holdings count: equal applications of whatever mechanism go together. */
export function holdingOf(mechanism: Mechanism): { mechanism_key: string; event: string } {
  const event = applicationEvent(mechanism);
  return { mechanism_key: event === null ? 'unbounded' : jsonDigest(event), event: canonicalJson(event) };
}

/** The private payload of a row: nobody finds by trial what its digest is of. */
export const privatePayload = (fields: Record<string, JsonValue>): string =>
  canonicalJson({ ...fields, random: randomBytes(16).toString('hex') });

/** Appends facts to the chain and applies a change of entries, holdings and accounts, all or nothing. */
export class LedgerWriter {
  readonly transaction: LedgerTransaction;
  readonly isPostgres: boolean;
  readonly time = new Date().toISOString();
  #head: ChainHead;
  #written: ChainHead;
  #rows: LedgerTables['ledger_rows'][] = [];

  constructor(transaction: LedgerTransaction, head: ChainHead, isPostgres: boolean) {
    this.transaction = transaction;
    this.isPostgres = isPostgres;
    this.#head = head;
    this.#written = head;
  }

  /** Rows are written in lots, the last one by `finish`. */
  append(fact: LedgerFact): Promise<void> {
    const row = chainRow(this.#head, fact, this.time);
    this.#head = { sequence: row.sequence, hash: row.hash };
    const { entryId: entry_id, previousHash: previous_hash, privatePayload: private_payload = null, ...rest } = row;
    this.#rows.push({ ...rest, entry_id, previous_hash, private_payload });
    return this.#rows.length < rowsAnInsert ? Promise.resolve() : this.finish();
  }

  async finish(): Promise<void> {
    const rows = this.#rows;
    this.#rows = [];
    if (rows.length > 0) await this.transaction.insertInto('ledger_rows').values(rows).execute();
    if (this.#written === this.#head) return;
    this.#written = this.#head;
    await this.transaction.updateTable('ledger_head').set(this.#head).execute();
  }

  async insertEntries(rows: readonly EntryRow[]): Promise<void> {
    for (let from = 0; from < rows.length; from += rowsAnInsert) {
      await this.transaction
        .insertInto('entries')
        .values(rows.slice(from, from + rowsAnInsert))
        .execute();
    }
  }

  /** Adds applications to what the account holds, or takes them off where their number is negative. */
  async hold(account: string, charges: readonly Charge[]): Promise<void> {
    const sums = new Map<string, LedgerTables['holdings']>();
    for (const { mechanism, applications } of charges) {
      if (applications === 0) continue;
      const holding = holdingOf(mechanism);
      const sum = sums.get(holding.mechanism_key);
      if (sum === undefined) sums.set(holding.mechanism_key, { account, ...holding, count: applications });
      else sum.count += applications;
    }
    for (const row of sums.values()) {
      await this.transaction
        .insertInto('holdings')
        .values(row)
        .onConflict((conflict) =>
          conflict
            .columns(['account', 'mechanism_key'])
            .doUpdateSet((known) => ({ count: known('holdings.count', '+', row.count) })),
        )
        .execute();
    }
  }

  async update(entry: EntryRow, change: Partial<EntryRow>): Promise<void> {
    await this.transaction
      .updateTable('entries')
      .set({ ...change, changed_at: this.time })
      .where('id', '=', entry.id)
      .execute();
  }
}
