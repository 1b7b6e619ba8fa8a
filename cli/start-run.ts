/** @file Starts a run of a plan, or finds the one that is under way already. */

import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { WorkflowExecutionAlreadyStartedError, WorkflowIdReusePolicy, type Client } from '@temporalio/client';
import { acquireLock } from '../stack/setup/lock.mjs';
import { statePaths } from '../stack/paths.ts';
import { openStore, type RunRegistry } from '../store/index.ts';
import type { Compiled } from '../compiler/index.ts';
import type { KnownHead } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import { readEvents } from '../tracking/events.ts';
import { claimRunNumber, listRuns, writeRun, type RunFolder, type RunRecord } from '../tracking/runs.ts';
import type { RunIdentity } from '../activities/contract.ts';
import { taskQueues } from '../workflows/task-queues.ts';
import { workflowState } from './temporal-client.ts';

export interface StartedRun extends RunFolder {
  /** False: it was under way. */
  isNew: boolean;
}

/**
 * A run of the same plan that has not ended is taken up again; otherwise a new one is started, unless `admit` throws.
 * Killed at any point and called again, it starts one run.
 *
 * @param admit prepares the ledger; returns its newest row, which the run asks it for, or null when it spends nothing
 */
export async function startRun(
  client: Client,
  { plan, specText }: Pick<Compiled, 'plan' | 'specText'>,
  admit: () => Promise<KnownHead | null>,
): Promise<StartedRun> {
  const store = openStore();
  await store.savePlan(plan);
  const lock = await acquireLock(`${statePaths.runs()}/.start.lock`, { purpose: `starting a run of ${plan.name}` });
  try {
    for (const folder of listRuns()) {
      const { name, planDigest } = folder.record;
      if (name !== plan.name || planDigest !== plan.digest) continue;
      const state = await workflowState(client, folder.record.workflowId);
      if (state === 'running') return { ...folder, isNew: false };
      // Written down, and then its start was interrupted: Temporal has never heard of it.
      if (state === 'unknown' && readEvents(folder.directory).events.length === 0)
        return await begin(client, plan, folder.record, specText, await admit());
    }
    const ledgerHead = await admit();
    const number = await freeNumber(store.runs, plan, specText);
    const record = {
      name: plan.name,
      number,
      // The ledger knows an experiment by this id for good, also after run folders and numbers are gone.
      workflowId: `${plan.name}/${number}-${randomBytes(4).toString('hex')}`,
      planDigest: plan.digest,
      specFile: resolve(plan.spec.file),
      startedAt: new Date().toISOString(),
    };
    return await begin(client, plan, record, specText, ledgerHead);
  } finally {
    lock.release();
  }
}

/** The next number that no run has, on any host that shares the store. */
async function freeNumber(runs: RunRegistry, { name, digest }: Plan, specText: string): Promise<number> {
  for (;;) {
    const number = claimRunNumber(name);
    if (await runs.claim({ name, number, planDigest: digest, specText })) return number;
  }
}

async function begin(
  client: Client,
  plan: Plan,
  record: RunRecord,
  specText: string,
  ledgerHead: KnownHead | null,
): Promise<StartedRun> {
  const directory = writeRun(record, specText);
  const { name, number, workflowId, planDigest } = record;
  const run: RunIdentity = { name, number, workflowId, planDigest };
  try {
    await client.workflow.start('experimentWorkflow', {
      args: [run, ledgerHead],
      workflowId,
      taskQueue: taskQueues.control,
      workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
      staticSummary: `${name}/${number}: ${plan.nodes.length} instances`,
      staticDetails: `Spec \`${record.specFile}\`, plan \`${planDigest}\``,
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
  return { directory, record, isNew: true };
}
