/** @file The ledger on SQLite: one file, one connection a process, writers one after another. */

import { chmodSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

import { CompiledQuery, Kysely, SqliteAdapter, SqliteDriver, SqliteIntrospector, SqliteQueryCompiler } from 'kysely';
import type { DatabaseConnection, Dialect, SqliteDatabase, TransactionSettings } from 'kysely';
import Database from 'libsql';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { logStatement } from '../../schemas/failpoints.ts';
import type { DatabaseKind } from './database.ts';
import { corrupt } from './refusals.ts';
import type { LedgerTables } from './schema.ts';

/** Waiting blocks the thread and with it heartbeats, so the driver waits briefly and the ledger's retries do the rest. */
const BUSY_TIMEOUT_MS = 40;

class LockingDriver extends SqliteDriver {
  /** Takes the write lock when a transaction starts: a lock upgraded later can fail after work was done. */
  override async beginTransaction(connection: DatabaseConnection, settings: TransactionSettings = {}): Promise<void> {
    const reads = settings.accessMode === 'read only';
    await connection.executeQuery(CompiledQuery.raw(reads ? 'begin' : 'begin immediate'));
  }
}

export const sqliteFile = (url: string): string => resolve(url.slice('sqlite:'.length));

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

/** Tells a file from another one that is put in its place while it is open; null when there is none. */
function identityOf(file: string): string | null {
  const found = statSync(file, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? null : `${found.dev}/${found.ino}`;
}

const isOf = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && 'code' in error && codes.some((code) => String(error.code).startsWith(code));

/**
 * libsql keeps a prepared statement that failed with SQLITE_BUSY in progress until it is collected, and with it a read
 * lock that no later transaction gets past. Only statements that take locks can fail so, and they have no parameters:
 * they run unprepared.
 */
function withoutLingeringStatements(database: Database.Database): SqliteDatabase {
  return {
    close: () => database.close(),
    prepare: (text) => {
      if (/^(begin|commit|rollback|create|alter|drop)\b/i.test(text)) {
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

export function sqliteKind(url: string): DatabaseKind {
  const file = sqliteFile(url);
  let connected: string | null = null;
  const connect = async (): Promise<SqliteDatabase> => {
    prepareFile(file);
    const database = new Database(file, { timeout: BUSY_TIMEOUT_MS });
    try {
      database.pragma('journal_mode = WAL');
      database.pragma('synchronous = FULL');
      connected = identityOf(file);
    } catch (error) {
      database.close();
      throw error;
    }
    return withoutLingeringStatements(database);
  };
  const dialect: Dialect = {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new LockingDriver({ database: connect }),
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
  return {
    identity: `sqlite:${file}`,
    isPostgres: false,
    connect: () => new Kysely<LedgerTables>({ dialect, log: logStatement }),
    requireDurable: () => Promise.resolve(),
    isReplaced: () => connected !== null && identityOf(file) !== connected,
    mishap: (error) => {
      if (isOf(error, 'SQLITE_CORRUPT', 'SQLITE_NOTADB')) throw corrupt('its file is not a whole SQLite database');
      return isOf(error, 'SQLITE_BUSY') ? 'busy' : null;
    },
    unreachable: (cause) =>
      new EpsilonflowError('SERVICE_UNREACHABLE', 'The privacy ledger stayed locked for a minute.', {
        hint: 'Look for another process that holds the ledger file open.',
        cause,
      }),
  };
}
