/**
 * @file Workers as versions of a Temporal worker deployment: a run stays with the version of the workflow code that began
 * it, and new runs go to the newest. Without a deployment, the worker of whatever version goes on with all runs.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { WorkerDeploymentOptions } from '@temporalio/worker';
import { sourceDigest } from '../tracking/source-digest.ts';

/** Of the workflow code: other changes keep what runs. */
const ownBuild = (): string => sourceDigest(['workflows', 'schemas']).slice(0, 16);

export const pinnedTo = (deploymentName: string, buildId = ownBuild()): WorkerDeploymentOptions => ({
  version: { deploymentName, buildId },
  useWorkerVersioning: true,
  defaultVersioningBehavior: 'PINNED',
});

/** Temporal's number for a version that never had a run. */
const inactive = 1;

/** How long a version may take to be known after its worker has asked for tasks, milliseconds. */
const knownWithin = 60_000;

/**
 * Lets new runs go to this version, unless it had some before: an older worker that is started again takes nothing back
 * from a newer one.
 *
 * @returns whether new runs go to it
 */
export async function takeNewRuns(
  { workflowService, options: { namespace } }: Client,
  deploymentName: string,
  own = ownBuild(),
): Promise<boolean> {
  for (const deadline = Date.now() + knownWithin; ; await sleep(250)) {
    const { workerDeploymentInfo: found, conflictToken } = await workflowService
      .describeWorkerDeployment({ namespace, deploymentName })
      .catch((error: unknown) => {
        if (Date.now() > deadline) throw error;
        return { workerDeploymentInfo: null, conflictToken: null };
      });
    const version = found?.versionSummaries?.find(({ deploymentVersion }) => deploymentVersion?.buildId === own);
    if (!version && Date.now() < deadline) continue;
    const isCurrent = found?.routingConfig?.currentDeploymentVersion?.buildId === own;
    if (isCurrent || (version && version.status !== inactive)) return isCurrent;
    await workflowService.setWorkerDeploymentCurrentVersion({ namespace, deploymentName, buildId: own, conflictToken });
    return true;
  }
}
