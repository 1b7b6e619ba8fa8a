/** @file Tables that say which records belong to which account, and which ledger this is. */

import { randomUUID } from 'node:crypto';

import type { Kysely } from 'kysely';

export interface AccountTables {
  /** One row. `row_key` tells which secret the row hashes are under; null until the first dataset is registered. */
  ledger_identity: { id: number; ledger: string; row_key: string | null };
  /** Keyed row hashes that came to the account with a digest, in parts: those that it did not hold before. */
  account_rows: { digest: string; part: number; account: string; hashes: string };
  /** The account that the newest data of a name were registered with. */
  account_names: { dataset: string; account: string };
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

/** The migration that remembers which account each name of a dataset leads to. */
export async function createAccountNames<T extends AccountTables & { ledger_rows: { kind: string; payload: string } }>(
  database: Kysely<T>,
): Promise<void> {
  const own = database as unknown as Kysely<
    AccountTables & { ledger_rows: { sequence: number; kind: string; account: string; payload: string } }
  >;
  await own.schema
    .createTable('account_names')
    .addColumn('dataset', 'text', (column) => column.primaryKey())
    .addColumn('account', 'text', (column) => column.notNull())
    .execute();
  const facts = await own
    .selectFrom('ledger_rows')
    .select(['account', 'payload'])
    .where('kind', '=', 'digest')
    .orderBy('sequence')
    .execute();
  for (const [dataset, account] of namesOf(facts)) {
    await own.insertInto('account_names').values({ dataset, account }).execute();
  }
}

/** What `account_names` holds, by rows of kind `digest` in order. */
export function namesOf(facts: readonly { account: string; payload: string }[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const { account, payload } of facts) {
    const { dataset, rows } = JSON.parse(payload) as { dataset: string; rows?: string };
    if (rows !== undefined) names.set(dataset, account);
  }
  return names;
}
