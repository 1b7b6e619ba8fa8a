/** @file The local worker as a process in the background: started when none is there, replaced when its code is old. */

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isProcessAlive, killProcess, thisProcess, type ProcessIdentity } from '../activities/process-identity.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { orDiskFull } from './free-space.ts';
import { writeDurably } from '../store/disk.ts';
import { packageRoot, statePaths } from './paths.ts';
import { acquireLock } from './setup/lock.mjs';
import { sourceDigest } from '../tracking/source-digest.ts';

export interface WorkerRecord {
  process: ProcessIdentity;
  /** Of the code it runs. */
  codeDigest: string;
  address: string;
  namespace: string;
  queues: string[];
  /** ISO 8601, UTC. */
  readyAt: string;
}

const recordFile = (): string => join(statePaths.services(), 'worker.json');

/** What a worker in the background wrote last. */
export const workerLogFile = (): string => join(statePaths.services(), 'worker.log');

/** How long a worker may take to be ready, and to end after it was asked to. */
const startTimeout = 120_000;
const stopTimeout = 60_000;

/** The living worker of this state folder; null when there is none. */
export function findWorker(): WorkerRecord | null {
  try {
    const record = JSON.parse(readFileSync(recordFile(), 'utf8')) as WorkerRecord;
    return isProcessAlive(record.process) ? record : null;
  } catch {
    return null;
  }
}

/** Called by the worker's process once it takes tasks. */
export async function recordThisWorker(facts: Pick<WorkerRecord, 'address' | 'namespace' | 'queues'>): Promise<void> {
  mkdirSync(statePaths.services(), { recursive: true });
  const record: WorkerRecord = {
    ...facts,
    process: thisProcess(),
    codeDigest: sourceDigest(),
    readyAt: new Date().toISOString(),
  };
  await writeDurably(recordFile(), JSON.stringify(record, null, 2) + '\n');
}

/**
 * Makes sure that a worker of the present code takes tasks of the given server. Two callers at once start one.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE when it does not get ready
 */
export async function ensureWorker(temporal: { address: string; namespace: string }): Promise<WorkerRecord> {
  const lock = await acquireLock(join(statePaths.services(), 'worker.lock'), { purpose: 'starting a worker' });
  try {
    const present = findWorker();
    const fits = present?.address === temporal.address && present.namespace === temporal.namespace;
    if (present && fits && present.codeDigest === sourceDigest()) return present;
    if (present) await stopProcess(present.process);
    return await startWorker();
  } finally {
    lock.release();
  }
}

/** Lets the worker's jobs write their checkpoints and ends it. Returns whether there was one. */
export async function stopWorker(): Promise<boolean> {
  const present = findWorker();
  if (!present) return false;
  await stopProcess(present.process);
  return true;
}

async function startWorker(): Promise<WorkerRecord> {
  rmSync(recordFile(), { force: true });
  mkdirSync(statePaths.services(), { recursive: true });
  const log = openSync(workerLogFile(), 'a', 0o600);
  const child = spawn(process.execPath, [join(packageRoot, 'cli', 'epsilonflow.mjs'), 'worker'], {
    cwd: packageRoot,
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  let ended: string | null = null;
  child.once('error', (error) => (ended = error.message));
  child.once('exit', (code, signal) => (ended = signal ?? `exit code ${code}`));
  child.unref();
  for (const deadline = Date.now() + startTimeout; Date.now() < deadline && ended === null; await sleep(100)) {
    const record = findWorker();
    if (record && record.process.pid === child.pid) return record;
  }
  if (ended === null && child.pid !== undefined) child.kill('SIGKILL');
  throw orDiskFull(
    new EpsilonflowError('SERVICE_UNREACHABLE', `The worker did not get ready (${ended ?? 'it took too long'}).`, {
      hint: `See the end of ${workerLogFile()}, and \`epsilonflow doctor\`.`,
    }),
  );
}

async function stopProcess(identity: ProcessIdentity): Promise<void> {
  killProcess(identity, 'SIGTERM');
  for (const deadline = Date.now() + stopTimeout; isProcessAlive(identity); await sleep(50)) {
    if (Date.now() > deadline) killProcess(identity, 'SIGKILL');
  }
}
