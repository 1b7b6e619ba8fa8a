/** @file The databases that a ledger may be in, for tests that hold on both. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import Database from 'libsql';

import { type PostgresServer, startPostgres } from '../postgres-server.ts';
import { requires } from '../requires.ts';

export interface TestDatabase {
  name: 'SQLite' | 'PostgreSQL';
  /** Whether it can be had here. */
  runs: boolean;
  setUp(): Promise<void>;
  tearDown(): Promise<void>;
  /** URL of a new, empty database. */
  fresh(): Promise<string>;
  /** Removes one, whoever is connected to it. */
  drop(url: string): Promise<void>;
  /** Runs a statement behind the ledger's back. */
  execute(url: string, statement: string): Promise<Record<string, unknown>[]>;
}

/** File of an SQLite ledger's URL. */
export const fileOf = (url: string): string => url.slice('sqlite:'.length);

function sqlite(): TestDatabase {
  let folder: string;
  let files = 0;
  return {
    name: 'SQLite',
    runs: true,
    setUp: () => {
      folder = mkdtempSync(join(tmpdir(), 'ledger-'));
      return Promise.resolve();
    },
    tearDown: () => {
      rmSync(folder, { recursive: true });
      return Promise.resolve();
    },
    fresh: () => Promise.resolve(`sqlite:${join(folder, String((files += 1)), 'ledger.db')}`),
    drop: (url) => {
      rmSync(dirname(fileOf(url)), { recursive: true, force: true });
      return Promise.resolve();
    },
    execute: (url, statement) => {
      const database = new Database(fileOf(url));
      try {
        if (statement.startsWith('select')) {
          return Promise.resolve(database.prepare(statement).all() as Record<string, unknown>[]);
        }
        database.exec(statement);
        return Promise.resolve([]);
      } finally {
        database.close();
      }
    },
  };
}

function postgres(what: string): TestDatabase {
  let server: PostgresServer;
  return {
    name: 'PostgreSQL',
    runs: requires('postgres', `${what}, on PostgreSQL`),
    setUp: async () => {
      server = await startPostgres();
    },
    tearDown: () => server.remove(),
    fresh: () => server.createDatabase(),
    drop: async (url) => {
      const at = url.lastIndexOf('/') + 1;
      await server.query(`${url.slice(0, at)}postgres`, `drop database "${url.slice(at)}" with (force)`);
    },
    execute: async (url, statement) => (await server.query(url, statement)).rows,
  };
}

/** For `describe.each`; a database that can't be had here is left out, and listed at the end of the run. */
export const ledgerDatabases = (what: string): TestDatabase[] => [sqlite(), postgres(what)].filter(({ runs }) => runs);
