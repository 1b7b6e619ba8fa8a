/** @file The secret that keys digests of private datasets, so that they can't be recomputed from guessed data. */

import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { openDatabase } from './database.ts';
import { sqliteFile } from './sqlite.ts';

const secretBytes = 32;

/**
 * The ledger's secret, 32 bytes; the first caller makes it. Beside an SQLite ledger it is the file `dataset-secret` of
 * mode 0600; in PostgreSQL it is a row, so that all hosts that share the ledger name a dataset alike.
 */
export async function ledgerSecret(url: string): Promise<Buffer> {
  return url.startsWith('sqlite:') ? secretFile(dirname(sqliteFile(url))) : secretRow(url);
}

async function secretRow(url: string): Promise<Buffer> {
  const { database, retry, close } = await openDatabase(url);
  try {
    const secret = randomBytes(secretBytes).toString('hex');
    await retry(() =>
      database
        .insertInto('ledger_secret')
        .values({ id: 1, secret })
        .onConflict((conflict) => conflict.column('id').doNothing())
        .execute(),
    );
    const row = await retry(() => database.selectFrom('ledger_secret').select('secret').executeTakeFirstOrThrow());
    return Buffer.from(row.secret, 'hex');
  } finally {
    await close();
  }
}

function secretFile(folder: string): Buffer {
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
    writeSync(descriptor, randomBytes(secretBytes));
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
