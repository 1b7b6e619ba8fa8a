/** @file Opens the ledger's SQL database. The only file of the ledger that knows which one it is. */

import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

import { CompiledQuery, Kysely, SqliteAdapter, SqliteDriver, SqliteIntrospector, SqliteQueryCompiler } from 'kysely';
import type { DatabaseConnection, Dialect, SqliteDatabase } from 'kysely';
import Database from 'libsql';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { corrupt } from './refusals.ts';
import { migrate, type LedgerTables } from './schema.ts';

export type LedgerDatabase = Kysely<LedgerTables>;

/** Waiting blocks the thread and with it heartbeats, so the driver waits briefly and `retryBusy` does the rest. */
const BUSY_TIMEOUT_MS = 40;
const BUSY_PATIENCE_MS = 60_000;

/** Takes the write lock when a transaction starts: a lock upgraded later can fail after work was done. */
class ImmediateDriver extends SqliteDriver {
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'));
  }
}

function sqliteFile(url: string): string {
  if (!url.startsWith('sqlite:')) {
    throw new EpsilonflowError('ARGUMENT_INVALID', 'The ledger URL must have the form sqlite:FILE.', {
      hint: 'Unset EPSILONFLOW_LEDGER_URL to use privacy-ledger/ledger.db.',
    });
  }
  return resolve(url.slice('sqlite:'.length));
}

/** Creates folder (0700) and file (0600); SQLite gives its journal files the mode of the database. */
function prepareFile(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    chmodSync(file, 0o600);
  }
}

const isOf = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && 'code' in error && codes.some((code) => String(error.code).startsWith(code));

/** Runs `work` again while another process holds the lock. `work` must be one transaction or one statement. */
export async function retryBusy<T>(work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + BUSY_PATIENCE_MS;
  for (let pause = 5; ; pause = Math.min(pause * 1.5, 200)) {
    try {
      return await work();
    } catch (error) {
      if (isOf(error, 'SQLITE_CORRUPT', 'SQLITE_NOTADB')) throw corrupt('its file is not a whole SQLite database');
      if (!isOf(error, 'SQLITE_BUSY')) throw error;
      if (Date.now() > deadline) {
        throw new EpsilonflowError('SERVICE_UNREACHABLE', 'The privacy ledger stayed locked for a minute.', {
          hint: 'Look for another process that holds the ledger file open.',
          cause: error,
        });
      }
      await new Promise((wake) => setTimeout(wake, pause * (0.5 + Math.random())));
    }
  }
}

/**
 * libsql keeps a prepared statement that failed with SQLITE_BUSY in progress until it is collected, and with it a read
 * lock that no later transaction gets past. Only statements that take locks can fail so, and they have no parameters:
 * they run unprepared.
 */
function withoutLingeringStatements(database: Database.Database): SqliteDatabase {
  return {
    close: () => database.close(),
    prepare: (text) => {
      if (/^(begin|commit|rollback|create)\b/i.test(text)) {
        const run = (): { changes: number; lastInsertRowid: number } => {
          database.exec(text);
          return { changes: 0, lastInsertRowid: 0 };
        };
        return { reader: false, run, all: () => (run(), []), iterate: () => (run(), [].values()) };
      }
      return database.prepare(text) as unknown as ReturnType<SqliteDatabase['prepare']>;
    },
  };
}

function sqliteDialect(file: string): Dialect {
  const connect = async (): Promise<SqliteDatabase> => {
    const database = new Database(file, { timeout: BUSY_TIMEOUT_MS });
    await retryBusy(async () => {
      database.pragma('journal_mode = WAL');
      database.pragma('synchronous = FULL');
    });
    return withoutLingeringStatements(database);
  };
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new ImmediateDriver({ database: connect }),
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

interface SharedDatabase {
  ready: Promise<LedgerDatabase>;
  users: number;
}

/** One connection a file and process: two would wait for each other with the thread blocked. */
const open = new Map<string, SharedDatabase>();

async function connect(file: string): Promise<LedgerDatabase> {
  prepareFile(file);
  const database = new Kysely<LedgerTables>({ dialect: sqliteDialect(file) });
  await retryBusy(() => migrate(database));
  return database;
}

export interface OpenedDatabase {
  database: LedgerDatabase;
  close(): Promise<void>;
}

/** Throws ARGUMENT_INVALID for a URL of another kind, SERVICE_UNREACHABLE when the file stays locked. */
export async function openDatabase(url: string): Promise<OpenedDatabase> {
  const file = sqliteFile(url);
  let shared = open.get(file);
  if (shared === undefined) {
    shared = { ready: connect(file), users: 0 };
    open.set(file, shared);
  }
  const mine = shared;
  mine.users += 1;
  try {
    const database = await mine.ready;
    let closed = false;
    const close = async (): Promise<void> => {
      if (closed) return;
      closed = true;
      mine.users -= 1;
      if (mine.users > 0) return;
      open.delete(file);
      await database.destroy();
    };
    return { database, close };
  } catch (error) {
    open.delete(file);
    throw error;
  }
}

/**
 * Secret of 32 bytes that keys digests of private datasets, so that outside the ledger they can't be recomputed from
 * guessed data. Lies beside the ledger with mode 0600; the first caller makes it.
 */
export function ledgerSecret(url: string): Buffer {
  const folder = dirname(sqliteFile(url));
  const file = join(folder, 'dataset-secret');
  const read = (): Buffer | null => {
    try {
      return readFileSync(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  };
  const known = read();
  if (known !== null) return known;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const descriptor = openSync(draft, 'wx', 0o600);
  try {
    writeSync(descriptor, randomBytes(32));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  try {
    // A link fails when another process was first, and never shows a half-written file.
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(file);
}
