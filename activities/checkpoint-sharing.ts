/** @file Lets other hosts go on from a step's checkpoints, where a store is shared. */

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { EpsilonflowError } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import { newestCheckpoint, type SharedCheckpoints } from '../store/index.ts';
import { requireRecords, type Authority } from './authority.ts';
import type { StepRequest } from './contract.ts';
import { keepRecordCount, keptRecordCounts, type WorkFolder } from './work-folder.ts';
import type { WorkerParts } from './worker-parts.ts';

/** How often it is looked for a new checkpoint, milliseconds. */
const lookEvery = 500;

/**
 * Takes over what another host has left, if that is newer than what is here, with what it knew of the ledger's records.
 *
 * @throws EpsilonflowError LEDGER_ROLLED_BACK when the ledger has fewer of them
 */
export async function takeOverCheckpoint(
  { store, ledger }: WorkerParts,
  work: WorkFolder,
  { receipts, nodeId, ledgerHead }: StepRequest,
): Promise<void> {
  const facts = await store.checkpoints?.restore(work);
  if (!facts || receipts.length === 0) return;
  for (const receipt of receipts) {
    const records = facts[receipt.entryId] ?? 0;
    if (records > 0) await keepRecordCount(work, receipts, receipt, records);
  }
  await requireRecords(await ledger(ledgerHead), nodeId, receipts);
}

interface SharingHooks {
  /** A checkpoint could not be sent, or (null) one was, after some that could not. */
  told(failure: unknown): void;
}

/** Sends checkpoints as they come while a job runs, and the last one when it did not complete. */
export async function whileSharing<T>(
  checkpoints: SharedCheckpoints | null,
  work: WorkFolder,
  authority: Authority | null,
  hooks: SharingHooks,
  run: () => Promise<T>,
): Promise<T> {
  if (checkpoints === null) return run();
  const sharing = new Sharing(checkpoints, work, authority, hooks);
  const ended = new AbortController();
  const watching = sharing.watch(ended.signal);
  try {
    const result = await run();
    ended.abort();
    await watching;
    return result;
  } catch (error) {
    ended.abort();
    await watching;
    await sharing.send();
    throw error;
  }
}

class Sharing {
  private readonly checkpoints: SharedCheckpoints;
  private readonly work: WorkFolder;
  private readonly authority: Authority | null;
  /** Whoever comes later writes under another name. */
  private readonly attempt = randomBytes(8).toString('hex');
  private sent: string | null = null;
  private readonly hooks: SharingHooks;
  private isFenced = false;
  private isFailing = false;

  constructor(checkpoints: SharedCheckpoints, work: WorkFolder, authority: Authority | null, hooks: SharingHooks) {
    this.checkpoints = checkpoints;
    this.work = work;
    this.authority = authority;
    this.hooks = hooks;
  }

  async watch(ended: AbortSignal): Promise<void> {
    // What is there already goes with the next one.
    this.sent = (await newestCheckpoint(this.work).catch(() => null))?.stamp ?? null;
    while (!ended.aborted) {
      await sleep(lookEvery, undefined, { signal: ended }).catch(() => undefined);
      if (!ended.aborted) await this.send();
    }
  }

  /** Sends what is new. Never fails the step: what could not be sent now is tried again, or goes with the next checkpoint. */
  async send(): Promise<void> {
    try {
      const newest = await newestCheckpoint(this.work);
      if (this.isFenced || newest === null || newest.stamp === this.sent) return;
      const facts = Object.fromEntries(await keptRecordCounts(this.work));
      const isSent = await this.checkpoints.save(this.work, this.attempt, facts, async () =>
        this.authority?.checkFence(),
      );
      if (isSent) this.sent = newest.stamp;
      if (isSent && this.isFailing) {
        this.isFailing = false;
        this.hooks.told(null);
      }
      failpoint('checkpoint: shared');
    } catch (error) {
      this.isFenced = error instanceof EpsilonflowError && error.code === 'FENCED';
      if (this.isFenced || this.isFailing) return;
      this.isFailing = true;
      this.hooks.told(error);
    }
  }
}
