/** @file Tables of the ledger and how they came to be, in SQL that SQLite and PostgreSQL share. */

import { sql, type Kysely } from 'kysely';

import { createAccountNames, createAccountTables, type AccountTables } from './account-tables.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { applicationsOf } from './admission.ts';
import { genesis } from './chain.ts';

export interface LedgerTables extends AccountTables {
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
    /** See `ChainedRow.privatePayload`. */
    private_payload: string | null;
    previous_hash: string;
    hash: string;
  };
  accounts: {
    name: string;
    delta: number;
    budget: number | null;
    /** The workflow that has the account to itself with a plan fixed before any of it began; null when there is none. */
    fixed_plan: string | null;
    /** 1 once anything was admitted by its tight figure alone: from then on nothing begun is given back. */
    whole: number;
  };
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
    /** Grows with each attempt and each end of the run; only who holds the newest may write. */
    fence: number;
    /** 1 from the end of a run on that had begun it until another attempt begins. */
    ended: number;
    /** Highest step that was recorded, plus 1; 0 before the first. */
    steps_started: number;
    /** Applications of the mechanism that are charged now: 0 when released. */
    charged: number;
    /** Number of distinct step records, and `stepsHash` over them in order. */
    records: number;
    records_hash: string;
    /** What the spec said the budget is, where that alone rules (benchmarks): binds extensions too. */
    stated_budget: number | null;
    /** Names the noise key of all attempts and tells nothing of it: see `Ledger.begin`. Null before one was given. */
    key_fingerprint: string | null;
    proof: string | null;
    changed_at: string;
  };
  /**
   * One row for each step and state that it was started from, written before its noise is used. Entries' rows in the
   * chain carry the hash over them, so that a step costs no row there and waits for no other entry. How many records were
   * drawn is not in that hash, which others see: the first state is known to all, and the rest could be guessed.
   */
  entry_steps: { entry_id: string; ordinal: number; step: number; digest: string; batch_size: number | null };
  /** One row on PostgreSQL: what keys the digests of private datasets, hex. SQLite has it in a file of its own. */
  ledger_secret: { id: number; secret: string };
  /** Integer totals by mechanism of all that is charged, so that admission costs the same at any length. */
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

/** Steps are recorded with the state that they start from; accounts know how their plan was admitted. */
const stepRecords: Migration = async (database) => {
  const { schema } = database;
  await schema.alterTable('accounts').addColumn('fixed_plan', 'text').execute();
  await addCounter(database, 'accounts', 'whole');
  await addCounter(database, 'entries', 'charged');
  await addCounter(database, 'entries', 'records');
  await schema
    .alterTable('entries')
    .addColumn('records_hash', 'text', (column) => column.notNull().defaultTo(''))
    .execute();
  await schema.alterTable('entries').addColumn('stated_budget', 'double precision').execute();
  const charged = database.selectFrom('entries').select(['mechanism']).distinct().where('state', '<>', 'released');
  for (const { mechanism } of await charged.execute()) {
    await database
      .updateTable('entries')
      .set({ charged: applicationsOf(JSON.parse(mechanism) as Mechanism) })
      .where('mechanism', '=', mechanism)
      .where('state', '<>', 'released')
      .execute();
  }
  await schema.dropIndex('entries_by_account').execute();
  await schema.dropIndex('entries_by_node_key').execute();
  await schema.createIndex('entries_by_account').on('entries').columns(['account', 'charged']).execute();
  await schema
    .createTable('entry_steps')
    .addColumn('entry_id', 'text', (column) => column.notNull())
    .addColumn('ordinal', 'integer', (column) => column.notNull())
    .addColumn('step', 'integer', (column) => column.notNull())
    .addColumn('digest', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('entry_steps_key', ['entry_id', 'step', 'digest'])
    .execute();
  await schema
    .createTable('ledger_secret')
    .addColumn('id', 'integer', (column) => column.primaryKey())
    .addColumn('secret', 'text', (column) => column.notNull())
    .execute();
};

const addCounter = (database: Kysely<LedgerTables>, table: 'accounts' | 'entries', name: string): Promise<void> =>
  database.schema
    .alterTable(table)
    .addColumn(name, 'integer', (column) => column.notNull().defaultTo(0))
    .execute();

const keyBindings: Migration = async ({ schema }) => {
  await schema.alterTable('entries').addColumn('key_fingerprint', 'text').execute();
};

const endedEntries: Migration = (database) => addCounter(database, 'entries', 'ended');

/** Changes no table: rows of reservations name their data from here on, and older versions would write some without. */
const sealedReservations: Migration = () => Promise.resolve();

const privatePayloads: Migration = async ({ schema }) => {
  await schema.alterTable('ledger_rows').addColumn('private_payload', 'text').execute();
  await schema.alterTable('entry_steps').addColumn('batch_size', 'integer').execute();
};

/** Changes no table: from here on rows tell of waivers, which older versions do not know. */
const waivedFigures: Migration = () => Promise.resolve();

/** Never change one that was released: append. */
const migrations: readonly Migration[] = [
  first,
  createAccountTables,
  stepRecords,
  createAccountNames,
  keyBindings,
  endedEntries,
  sealedReservations,
  privatePayloads,
  waivedFigures,
];

/** Brings the tables up to date; any number of processes may call it at once. Throws LEDGER_TOO_NEW. */
export async function migrate(database: Kysely<LedgerTables>, { isPostgres }: { isPostgres: boolean }): Promise<void> {
  await database.transaction().execute(async (transaction) => {
    // PostgreSQL would let two processes make the same table and then fail one; SQLite's transactions exclude others.
    if (isPostgres) await sql`select pg_advisory_xact_lock(${migrationLock})`.execute(transaction);
    await transaction.schema
      .createTable('ledger_schema')
      .ifNotExists()
      .addColumn('id', 'integer', (column) => column.primaryKey())
      .addColumn('version', 'integer', (column) => column.notNull())
      .execute();
    await transaction
      .insertInto('ledger_schema')
      .values({ id: 1, version: 0 })
      .onConflict((conflict) => conflict.column('id').doNothing())
      .execute();
    const { version } = await transaction.selectFrom('ledger_schema').select('version').executeTakeFirstOrThrow();
    if (version > migrations.length) {
      throw new EpsilonflowError(
        'LEDGER_TOO_NEW',
        `The privacy ledger has schema ${version}; this version of Epsilonflow knows ${migrations.length}.`,
        { hint: 'Update Epsilonflow here; older versions must not write to this ledger any more.' },
      );
    }
    if (version === migrations.length) return;
    for (const migration of migrations.slice(version)) await migration(transaction);
    await transaction.updateTable('ledger_schema').set({ version: migrations.length }).execute();
  });
}

/** Any number that nobody else locks in the same database. */
const migrationLock = 3_735_928_559;
