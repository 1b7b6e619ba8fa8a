/** @file Reaches the workflow of a run that is under way, for commands that tell it something. */

import type { Client } from '@temporalio/client';
import { EpsilonflowError } from '../schemas/errors.ts';
import { ensureTemporal } from '../stack/services.ts';
import { ensureWorker } from '../stack/worker-process.ts';
import { resolveRun, type RunFolder } from '../tracking/runs.ts';
import { connectTemporal, workflowState } from './temporal-client.ts';

export interface OpenRun {
  /** NAME/NUMBER. */
  run: string;
  folder: RunFolder;
  client: Client;
  workflowId: string;
}

/**
 * Does `work` with a run under way, and a worker that can answer for it.
 *
 * @param reference NAME/NUMBER, NAME or `latest`
 * @throws EpsilonflowError RUN_UNKNOWN, SERVICE_UNREACHABLE, ARGUMENT_INVALID when the run has ended, what `work` throws
 */
export async function withOpenRun<T>(reference: string, work: (open: OpenRun) => Promise<T>): Promise<T> {
  const folder = resolveRun(reference);
  const { name, number, workflowId } = folder.record;
  const run = `${name}/${number}`;
  const temporal = await ensureTemporal();
  const client = await connectTemporal(temporal);
  try {
    if ((await workflowState(client, workflowId)) !== 'running') {
      throw new EpsilonflowError('ARGUMENT_INVALID', `${run} does not run any more.`, {
        hint: `See \`epsilonflow status ${run}\`; running its spec again reuses what has finished.`,
      });
    }
    await ensureWorker(temporal);
    return await work({ run, folder, client, workflowId });
  } finally {
    await client.connection.close();
  }
}
