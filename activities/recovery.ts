/**
 * @file What a worker does at its start about workers that died on this host: it ends their jobs, tells Temporal at
 * once instead of leaving it to the heartbeat's timeout, and removes what they had staged.
 */

import type { AsyncCompletionClient } from '@temporalio/client';
import { ActivityNotFoundError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { Store } from '../store/index.ts';
import { decodeProcess, isProcessAlive, killProcess } from './process-identity.ts';
import { deadClaims, dropClaim } from './work-folder.ts';

/** @returns ids of the nodes whose attempts were given back to Temporal */
export async function recoverDeadAttempts(client: AsyncCompletionClient, store: Store): Promise<string[]> {
  const recovered: string[] = [];
  for (const { work, claim } of await deadClaims()) {
    if (claim.job) killProcess(claim.job);
    const failure = ApplicationFailure.create({
      type: 'WORKER_DIED',
      message: `The worker of attempt ${claim.attempt} died; the step goes on from its last checkpoint.`,
    });
    try {
      await client.fail(Buffer.from(claim.taskToken, 'base64'), failure);
      recovered.push(claim.nodeId);
    } catch (error) {
      // Temporal has given the attempt up already, or its run has ended.
      if (!(error instanceof ActivityNotFoundError)) throw error;
    }
    await dropClaim(work, claim.taskToken);
  }
  await store.artifacts.sweep(async (owner) => {
    const process = decodeProcess(owner);
    return process !== null && isProcessAlive(process);
  });
  return recovered;
}
