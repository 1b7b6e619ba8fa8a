/** @file Tables that say which records belong to which account, and which ledger this is. */

import { randomUUID } from 'node:crypto';

import type { Kysely } from 'kysely';

export interface AccountTables {
  /** One row. `row_key` tells which secret the row hashes are under; null until the first dataset is registered. */
  ledger_identity: { id: number; ledger: string; row_key: string | null };
  /** Keyed row hashes that came to the account with a digest, in parts: those that it did not hold before. */
  account_rows: { digest: string; part: number; account: string; hashes: string };
  /** How many rows two accounts share with someone's acknowledgement; `account` sorts before `other`. */
  account_overlaps: { account: string; other: string; shared: number };
}

/** The migration that makes them. */
export async function createAccountTables<T extends AccountTables>(database: Kysely<T>): Promise<void> {
  const own = database as unknown as Kysely<AccountTables>;
  const { schema } = own;
  await schema
    .createTable('ledger_identity')
    .addColumn('id', 'integer', (column) => column.primaryKey())
    .addColumn('ledger', 'text', (column) => column.notNull())
    .addColumn('row_key', 'text')
    .execute();
  await schema
    .createTable('account_rows')
    .addColumn('digest', 'text', (column) => column.notNull())
    .addColumn('part', 'integer', (column) => column.notNull())
    .addColumn('account', 'text', (column) => column.notNull())
    .addColumn('hashes', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('account_rows_key', ['digest', 'part'])
    .execute();
  await schema.createIndex('account_rows_by_account').on('account_rows').columns(['account']).execute();
  await schema
    .createTable('account_overlaps')
    .addColumn('account', 'text', (column) => column.notNull())
    .addColumn('other', 'text', (column) => column.notNull())
    .addColumn('shared', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('account_overlaps_key', ['account', 'other'])
    .execute();
  await own.insertInto('ledger_identity').values({ id: 1, ledger: randomUUID(), row_key: null }).execute();
}
