/** @file Files that hold a node's noise key. Whoever reads one can undo the noise, so it is secret and short-lived. */

import { createHmac, randomBytes } from 'node:crypto';
import { chmod, link, mkdir, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

import { EpsilonflowError } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import { noiseKeyBytes } from './noise.ts';

/**
 * Makes sure that `file` holds a key: keeps one that is there, so that a retried attempt repeats its noise, and
 * writes `key` otherwise, by default one from the system's generator (folder 0700, file 0600, on disk before this returns).
 * When two processes create it at once, both end with the same key.
 */
export async function ensureNoiseKey(file: string, key: Uint8Array = randomBytes(noiseKeyBytes)): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(key);
    await handle.sync();
  } finally {
    await handle.close();
  }
  failpoint('key: drafted');
  try {
    // A hard link fails when the name is taken: unlike a rename, it never replaces the key of an earlier attempt.
    await link(draft, file);
    failpoint('key: linked');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(draft, { force: true });
  }
  await chmod(file, 0o600);
  await syncFolder(dirname(file));
}

/** Reads a key. Throws NOISE_KEY_LOST when the file is missing or damaged: the reserved charge then stands. */
export async function readNoiseKey(file: string): Promise<Buffer> {
  const key = await readFile(file).catch((cause: unknown) => {
    throw new EpsilonflowError('NOISE_KEY_LOST', `The noise key of this step cannot be read: ${file}`, {
      hint: 'A lost key cannot be made again. Run the step anew, as a new ledger entry.',
      cause,
    });
  });
  if (key.length !== noiseKeyBytes || key.every((byte) => byte === 0)) {
    throw new EpsilonflowError('NOISE_KEY_LOST', `The noise key of this step is damaged: ${file}`, {
      hint: 'Remove the file and run the step anew, as a new ledger entry.',
    });
  }
  return key;
}

/** What the ledger knows a key by: HMAC-SHA256 of the entry's id under it, hex. */
export const keyFingerprint = (key: Buffer, entryId: string): string =>
  createHmac('sha256', key).update(entryId).digest('hex');

/**
 * Removes a key once its step is committed and overwrites it; no error when it is gone already. It loses its name
 * first: what a crash leaves behind under the name is the key or nothing, never known bytes.
 */
export async function destroyNoiseKey(file: string): Promise<void> {
  let handle;
  try {
    handle = await open(file, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  try {
    await rm(file, { force: true });
    await syncFolder(dirname(file));
    failpoint('key: removed');
    await handle.write(Buffer.alloc(noiseKeyBytes), 0, noiseKeyBytes, 0);
    await handle.sync();
    failpoint('key: overwritten');
  } finally {
    await handle.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
