/**
 * @file What a worker does at its start about workers that died on this host: it ends their jobs, tells Temporal at
 * once instead of leaving it to the heartbeat's timeout, and removes what they had staged and what no run needs.
 */

import { ActivityNotFoundError, type Client } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { decodeProcess, isProcessAlive, killProcess } from './process-identity.ts';
import { isAnyClosed } from '../privacy/ledger/index.ts';
import { inParallel } from '../schemas/in-parallel.ts';
import {
  closeWorkFolder,
  deadClaims,
  destroyWorkFolder,
  dropClaim,
  keptRecordCounts,
  privateWorkFolders,
  readClaim,
  type OwnedFolder,
} from './work-folder.ts';
import type { WorkerParts } from './worker-parts.ts';
import { workflowState } from './workflow-states.ts';

/** Folders of steps that are looked at at a time. */
const lookedAtTogether = 8;

/** @returns ids of the nodes whose attempts were given back to Temporal */
export async function recoverDeadAttempts(
  client: Client,
  { store, ledger }: Pick<WorkerParts, 'store' | 'ledger'>,
): Promise<string[]> {
  const recovered: string[] = [];
  for (const { work, claim } of await deadClaims()) {
    if (claim.job) killProcess(claim.job);
    const failure = ApplicationFailure.create({
      type: 'WORKER_DIED' satisfies ErrorCode,
      message: `The worker of attempt ${claim.attempt} died; the step goes on from its last checkpoint.`,
    });
    try {
      await client.activity.fail(Buffer.from(claim.taskToken, 'base64'), failure);
      recovered.push(claim.nodeId);
    } catch (error) {
      // Temporal has given the attempt up already, or its run has ended.
      if (!(error instanceof ActivityNotFoundError)) throw error;
    }
    await dropClaim(work, claim.taskToken);
  }
  await closeEndedSteps(client, ledger);
  await store.artifacts.sweep(async (owner) => {
    const process = decodeProcess(owner);
    return process !== null && isProcessAlive(process);
  });
  return recovered;
}

/**
 * Destroys noise keys and checkpoints of entries that are committed or were released, whatever became of their runs, and
 * of runs that have ended without closing their steps: terminated ones. A run that Temporal does not know may be another
 * server's, or go on when it is started again. What a living attempt holds is left to the next time.
 *
 * @throws the first failure, after all folders were looked at
 */
export async function closeEndedSteps(client: Client, ledger: WorkerParts['ledger']): Promise<void> {
  const failures: unknown[] = [];
  await inParallel(lookedAtTogether, await privateWorkFolders(), (folder) =>
    closeIfEnded(client, ledger, folder).catch((error: unknown) => void failures.push(error)),
  );
  if (failures.length > 0) throw failures[0];
}

async function closeIfEnded(client: Client, ledger: WorkerParts['ledger'], folder: OwnedFolder): Promise<void> {
  const { work, workflowId, stepWorkflowId, receipts } = folder;
  const claim = await readClaim(work.directory);
  if (claim !== null && isProcessAlive(claim.worker)) return;
  if (receipts.length > 0 && (await isAnyClosed(await ledger(), receipts).catch(ifUnknown))) {
    return destroyWorkFolder(work);
  }
  // A step may outlive its experiment, to commit what it has done.
  const states = await Promise.all(
    [workflowId, ...(stepWorkflowId === null ? [] : [stepWorkflowId])].map((id) => workflowState(client, id)),
  );
  if (states[0] === 'unknown' || states.includes('open')) return;
  // Nobody will release them now. What had records is of use to whoever looks into an older copy of the ledger.
  const hadRecords = (await keptRecordCounts(work)).size > 0;
  await (hadRecords ? closeWorkFolder(work) : destroyWorkFolder(work));
}

/** Entries of a ledger that this one is not. */
function ifUnknown(error: unknown): false {
  if (error instanceof EpsilonflowError && error.code === 'RECEIPT_INVALID') return false;
  throw error;
}
