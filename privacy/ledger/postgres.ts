/** @file The ledger on PostgreSQL: a pool of connections that never waits without end, and what its errors mean. */

import { CompiledQuery, Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { logStatement } from '../../schemas/failpoints.ts';
import type { DatabaseKind } from './database.ts';
import type { LedgerTables } from './schema.ts';

/** Milliseconds. The server ends what waits too long; the last one is for a server that no longer answers at all. */
const timeouts = {
  connectionTimeoutMillis: 10_000,
  lock_timeout: 15_000,
  statement_timeout: 60_000,
  idle_in_transaction_session_timeout: 60_000,
  query_timeout: 75_000,
};

/** Set by tests that end processes only, and whose servers need not wait for a disk. */
const volatileTests = 'EPSILONFLOW_TEST_FSYNC_OFF';

/** SQLSTATE: serialization failure, deadlock, lock not available. Others were at work; nothing was done. */
const busyStates = ['40001', '40P01', '55P03'];
/** Connection exceptions, shut down, crashed, starting, too many connections, ended while idle or by a timeout. */
const outageStates = ['08', '57P01', '57P02', '57P03', '53300', '25P03', '57014'];
/** Wrong user or password, no such database, no right to use it. */
const refusalStates = ['28', '3D000', '42501'];
const outageCodes = ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT'];
const lookUpCodes = ['ENOTFOUND', 'EAI_AGAIN'];
/** The driver's own, which have no code. */
const outageMessages = /^(Connection terminated|timeout exceeded|Query read timeout|Client (has|was) )/;

function isOutage(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof EpsilonflowError) return false;
  // Node tries each address of a host and reports them together.
  if (error instanceof AggregateError) return error.errors.some(isOutage);
  if (!('code' in error) || error.code === undefined) return outageMessages.test(error.message);
  const code = String(error.code);
  return (
    outageStates.some((state) => code.startsWith(state)) || outageCodes.includes(code) || lookUpCodes.includes(code)
  );
}

const isRefusal = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && refusalStates.some((state) => error.code?.startsWith(state));

/** Where the ledger is, for people: without user and password. */
export function postgresName(url: string): string {
  const { host, pathname } = parsed(url);
  return `postgres://${host}${pathname}`;
}

function parsed(url: string): URL {
  try {
    return new URL(url);
  } catch {
    throw new EpsilonflowError('ARGUMENT_INVALID', 'The ledger URL is not a valid URL.', {
      hint: 'It has the form postgres://USER:PASSWORD@HOST:PORT/DATABASE; special characters of a password are written %XX.',
    });
  }
}

export function postgresKind(url: string): DatabaseKind {
  const name = postgresName(url);
  const connect = (): Kysely<LedgerTables> => {
    const pool = new pg.Pool({
      connectionString: url,
      application_name: 'epsilonflow',
      keepAlive: true,
      max: 4,
      ...timeouts,
    });
    // Queries on a lost connection fail by themselves. It also says so as an event, idle or between two queries of a
    // transaction, which would end the process if nobody listened.
    pool.on('error', () => undefined);
    pool.on('connect', (client) => client.on('error', () => undefined));
    const dialect = new PostgresDialect({
      pool,
      // What the ledger says is written must be on disk, whatever the server's or the URL's default is.
      onCreateConnection: async (connection) => {
        await connection.executeQuery(CompiledQuery.raw('set synchronous_commit = on'));
      },
    });
    return new Kysely<LedgerTables>({ dialect, log: logStatement });
  };
  return {
    identity: url,
    isPostgres: true,
    connect,
    requireDurable: async (database) => {
      const { rows } = await sql<{ fsync: string }>`show fsync`.execute(database);
      if (rows[0]?.fsync !== 'off' || process.env[volatileTests] === '1') return;
      throw new EpsilonflowError(
        'ARGUMENT_INVALID',
        `PostgreSQL at ${name} runs with fsync off: it can lose charges.`,
        {
          hint: 'Set fsync = on in its configuration and start it again, or keep the privacy ledger elsewhere.',
        },
      );
    },
    // A pool asks the server anew whenever it connects.
    isReplaced: () => false,
    mishap: (error) => {
      if (error instanceof pg.DatabaseError && busyStates.includes(error.code ?? '')) return 'busy';
      if (isOutage(error)) return 'outage';
      return isRefusal(error) ? 'refusal' : null;
    },
    unreachable: (cause) =>
      new EpsilonflowError('SERVICE_UNREACHABLE', `The privacy ledger at ${name} cannot be reached.`, {
        hint: isRefusal(cause)
          ? 'Correct user, password and database in EPSILONFLOW_LEDGER_URL; the user must be allowed to make tables.'
          : 'Start PostgreSQL or correct EPSILONFLOW_LEDGER_URL. What was asked can be asked again: nothing is charged twice.',
        cause,
      }),
  };
}
