/** @file Opens the ledger's SQL database, SQLite or PostgreSQL, and runs again what only others' work made fail. */

import type { Kysely } from 'kysely';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { failpoint } from '../../schemas/failpoints.ts';
import { postgresKind, postgresName } from './postgres.ts';
import { migrate, type LedgerTables } from './schema.ts';
import { sqliteKind } from './sqlite.ts';

export type LedgerDatabase = Kysely<LedgerTables>;

/** What the two databases do not share. */
export interface DatabaseKind {
  /** Two URLs with one identity are one database. */
  identity: string;
  isPostgres: boolean;
  connect(): LedgerDatabase;
  /** Throws ARGUMENT_INVALID where what is committed need not reach the disk. */
  requireDurable(database: LedgerDatabase): Promise<void>;
  /** Whether what `connect` opened is not there any more. */
  isReplaced(): boolean;
  /** Why a statement failed, when that was not its own fault; `busy`: nothing was done. */
  mishap(error: unknown): 'busy' | 'outage' | 'refusal' | null;
  unreachable(cause: unknown): EpsilonflowError;
}

const busyPatience = 60_000;
const outagePatience = 30_000;

export interface OpenedDatabase {
  database: LedgerDatabase;
  isPostgres: boolean;
  /**
   * Runs `work`, one transaction or statement, again while others keep it from being done. With `bridging` it is run
   * again after a lost connection too, for half a minute: only for what may be done twice.
   *
   * @throws EpsilonflowError SERVICE_UNREACHABLE
   */
  retry<T>(work: () => Promise<T>, options?: { bridging?: boolean }): Promise<T>;
  isReplaced(): boolean;
  close(): Promise<void>;
}

async function retry<T>(kind: DatabaseKind, work: () => Promise<T>, bridging: boolean): Promise<T> {
  const started = Date.now();
  for (let pause = 5; ; pause = Math.min(pause * 1.5, 200)) {
    try {
      return await work();
    } catch (error) {
      const mishap = kind.mishap(error);
      if (mishap === null) throw error;
      const patience = mishap === 'busy' ? busyPatience : mishap === 'outage' && bridging ? outagePatience : 0;
      if (Date.now() - started >= patience) throw kind.unreachable(error);
      await new Promise((wake) => setTimeout(wake, pause * (0.5 + Math.random())));
    }
  }
}

function kindOf(url: string): DatabaseKind {
  if (url.startsWith('sqlite:')) return sqliteKind(url);
  if (/^postgres(ql)?:/.test(url)) return postgresKind(url);
  throw new EpsilonflowError('ARGUMENT_INVALID', 'The ledger URL must have the form sqlite:FILE or postgres://...', {
    hint: 'Unset EPSILONFLOW_LEDGER_URL to use privacy-ledger/ledger.db.',
  });
}

/** Where a ledger is, for people and logs: never with a password. */
export const ledgerName = (url: string): string => (url.startsWith('sqlite:') ? url : postgresName(url));

interface SharedDatabase {
  kind: DatabaseKind;
  ready: Promise<LedgerDatabase>;
  users: number;
}

/** One a process: two SQLite connections would wait for each other with the thread blocked. */
const open = new Map<string, SharedDatabase>();

async function connect(kind: DatabaseKind): Promise<LedgerDatabase> {
  failpoint('open: asked');
  const database = kind.connect();
  try {
    await retry(kind, () => kind.requireDurable(database), false);
    await retry(kind, () => migrate(database, kind), false);
    failpoint('open: done');
  } catch (error) {
    // A database that was never reached has nothing to close.
    await database.destroy().catch(() => undefined);
    throw error;
  }
  return database;
}

/** Throws ARGUMENT_INVALID for a URL of another kind, SERVICE_UNREACHABLE, LEDGER_TOO_NEW. */
export async function openDatabase(url: string): Promise<OpenedDatabase> {
  const kind = kindOf(url);
  let shared = open.get(kind.identity);
  if (shared === undefined || shared.kind.isReplaced()) {
    shared = { kind, ready: connect(kind), users: 0 };
    open.set(kind.identity, shared);
  }
  const mine = shared;
  mine.users += 1;
  try {
    const database = await mine.ready;
    let closed = false;
    return {
      database,
      isPostgres: kind.isPostgres,
      retry: (work, { bridging = false } = {}) => retry(kind, work, bridging),
      isReplaced: () => mine.kind.isReplaced(),
      close: async () => {
        if (closed) return;
        closed = true;
        mine.users -= 1;
        if (mine.users > 0) return;
        if (open.get(kind.identity) === mine) open.delete(kind.identity);
        await database.destroy();
      },
    };
  } catch (error) {
    if (open.get(kind.identity) === mine) open.delete(kind.identity);
    throw error;
  }
}
