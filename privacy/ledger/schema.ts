/** @file Tables of the ledger and how they came to be, in SQL that SQLite and PostgreSQL share. */

import { sql, type Kysely } from 'kysely';

import { genesis } from './chain.ts';

export interface LedgerTables {
  ledger_schema: { id: number; version: number };
  /** One row: every writing transaction updates it first, and so waits for all others. */
  ledger_head: { id: number; sequence: number; hash: string };
  /** The record: append-only and chained. The tables below are computed from it, in the same transaction. */
  ledger_rows: {
    sequence: number;
    time: string;
    kind: string;
    account: string;
    entry_id: string | null;
    payload: string;
    previous_hash: string;
    hash: string;
  };
  accounts: { name: string; delta: number; budget: number | null };
  account_digests: { digest: string; account: string };
  entries: {
    id: string;
    account: string;
    workflow_id: string;
    experiment: string;
    plan_digest: string;
    node_id: string;
    node_key: string;
    key_epoch: number;
    mechanism: string;
    mechanism_digest: string;
    state: string;
    /** Number of attempts begun; only the newest may write. */
    fence: number;
    /** Steps whose noise may have been used; 0 before the first. Not chained: it only ever bounds a charge from below. */
    steps_started: number;
    proof: string | null;
    changed_at: string;
  };
  /** Integer totals by mechanism of all that is not released, so that admission costs the same at any length. */
  holdings: { account: string; mechanism_key: string; event: string; count: number };
}

type Migration = (database: Kysely<LedgerTables>) => Promise<void>;

const first: Migration = async (database) => {
  const { schema } = database;
  await schema
    .createTable('ledger_head')
    .addColumn('id', 'integer', (column) => column.primaryKey())
    .addColumn('sequence', 'bigint', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .execute();
  await schema
    .createTable('ledger_rows')
    .addColumn('sequence', 'bigint', (column) => column.primaryKey())
    .addColumn('time', 'text', (column) => column.notNull())
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('account', 'text', (column) => column.notNull())
    .addColumn('entry_id', 'text')
    .addColumn('payload', 'text', (column) => column.notNull())
    .addColumn('previous_hash', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .execute();
  await schema
    .createTable('accounts')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('delta', 'double precision', (column) => column.notNull())
    .addColumn('budget', 'double precision')
    .execute();
  await schema
    .createTable('account_digests')
    .addColumn('digest', 'text', (column) => column.primaryKey())
    .addColumn('account', 'text', (column) => column.notNull())
    .execute();
  await schema
    .createTable('entries')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('account', 'text', (column) => column.notNull())
    .addColumn('workflow_id', 'text', (column) => column.notNull())
    .addColumn('experiment', 'text', (column) => column.notNull())
    .addColumn('plan_digest', 'text', (column) => column.notNull())
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('node_key', 'text', (column) => column.notNull())
    .addColumn('key_epoch', 'integer', (column) => column.notNull())
    .addColumn('mechanism', 'text', (column) => column.notNull())
    .addColumn('mechanism_digest', 'text', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('fence', 'integer', (column) => column.notNull())
    .addColumn('steps_started', 'integer', (column) => column.notNull())
    .addColumn('proof', 'text')
    .addColumn('changed_at', 'text', (column) => column.notNull())
    .execute();
  await schema.createIndex('entries_by_workflow').on('entries').columns(['workflow_id', 'state']).execute();
  await schema.createIndex('entries_by_node_key').on('entries').columns(['node_key', 'state']).execute();
  await schema.createIndex('entries_by_account').on('entries').columns(['account', 'state', 'workflow_id']).execute();
  await schema
    .createTable('holdings')
    .addColumn('account', 'text', (column) => column.notNull())
    .addColumn('mechanism_key', 'text', (column) => column.notNull())
    .addColumn('event', 'text', (column) => column.notNull())
    .addColumn('count', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('holdings_key', ['account', 'mechanism_key'])
    .execute();
  await database
    .insertInto('ledger_head')
    .values({ id: 1, ...genesis })
    .execute();
};

/** Never change one that was released: append. */
const migrations: readonly Migration[] = [first];

/** Brings the tables up to date; any number of processes may call it at once. */
export async function migrate(database: Kysely<LedgerTables>): Promise<void> {
  await sql`create table if not exists ledger_schema (id integer primary key, version integer not null)`.execute(
    database,
  );
  await database.transaction().execute(async (transaction) => {
    await transaction
      .insertInto('ledger_schema')
      .values({ id: 1, version: 0 })
      .onConflict((conflict) => conflict.column('id').doNothing())
      .execute();
    // A write, so that whoever comes second waits here and then sees the first one's version.
    const { version } = await transaction
      .updateTable('ledger_schema')
      .set((row) => ({ version: row.ref('version') }))
      .returning('version')
      .executeTakeFirstOrThrow();
    for (const migration of migrations.slice(version)) await migration(transaction);
    await transaction.updateTable('ledger_schema').set({ version: migrations.length }).execute();
  });
}
