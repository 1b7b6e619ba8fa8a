/** @file Starts a run of a plan, or finds the one that is under way already. */

import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { WorkflowExecutionAlreadyStartedError, WorkflowIdReusePolicy, type Client } from '@temporalio/client';
import type { SearchAttributePair } from '@temporalio/common';
import { acquireLock } from '../stack/setup/lock.mjs';
import { statePaths } from '../stack/paths.ts';
import { openStore, type RunRegistry } from '../store/index.ts';
import type { Compiled } from '../compiler/index.ts';
import type { KnownHead } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import type { Scheduling } from '../schemas/scheduling.ts';
import { readEvents } from '../tracking/events.ts';
import { claimRunNumber, listRuns, writeRun, type RunFolder, type RunRecord } from '../tracking/runs.ts';
import type { RunIdentity, RunLimits, RunWorkflowOptions } from '../activities/contract.ts';
import { taskQueues } from '../workflows/task-queues.ts';
import { attributesOfRun } from './search-attributes.ts';
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
  { plan, specText, scheduling }: Pick<Compiled, 'plan' | 'specText' | 'scheduling'>,
  admit: () => Promise<KnownHead | null>,
): Promise<StartedRun> {
  return whileStarting(plan, async (runs) => {
    const before = await findUnended(client, plan);
    if (before?.isUnderWay) return { ...before.folder, isNew: false };
    const ledgerHead = await admit();
    const record = before?.folder.record ?? (await newRecord(runs, { plan, specText }, scheduling));
    const directory = writeRun(record, specText);
    try {
      await client.workflow.start('experimentWorkflow', {
        ...workflowOptions(record, plan, await attributesOfRun(client, plan)),
        args: [identityOf(record), ledgerHead, limitsOf(record)],
        taskQueue: taskQueues.control,
      });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
    return { directory, record, isNew: true };
  });
}

/** Saves the plan, and does `work` while no other command or firing of a schedule starts a run here. */
export async function whileStarting<T>(plan: Plan, work: (runs: RunRegistry) => Promise<T>): Promise<T> {
  const store = openStore();
  return whileNoneStarts(`starting a run of ${plan.name}`, async () => {
    await store.savePlan(plan);
    return work(store.runs);
  });
}

/** Does `work` while no command or firing of a schedule starts a run here. */
export async function whileNoneStarts<T>(purpose: string, work: () => Promise<T>): Promise<T> {
  const lock = await acquireLock(`${statePaths.runs()}/.start.lock`, { purpose });
  try {
    return await work();
  } finally {
    lock.release();
  }
}

interface UnendedRun {
  folder: RunFolder;
  /** False: it was written down, and then its start was interrupted: Temporal has never heard of it. */
  isUnderWay: boolean;
}

/** A run of the same plan. */
export async function findUnended(client: Client, plan: Plan): Promise<UnendedRun | null> {
  for (const folder of listRuns()) {
    const { name, planDigest, workflowId } = folder.record;
    if (name !== plan.name || planDigest !== plan.digest) continue;
    const state = await workflowState(client, workflowId);
    if (state === 'running') return { folder, isUnderWay: true };
    if (state === 'unknown' && readEvents(folder.directory).events.length === 0) return { folder, isUnderWay: false };
  }
  return null;
}

export async function newRecord(
  runs: RunRegistry,
  { plan, specText }: Pick<Compiled, 'plan' | 'specText'>,
  scheduling: Scheduling,
): Promise<RunRecord> {
  const startedAt = new Date().toISOString();
  const number = await freeNumber(runs, plan, { specText, startedAt });
  return {
    name: plan.name,
    number,
    // The ledger knows an experiment by this id for good, also after run folders and numbers are gone.
    workflowId: `${plan.name}/${number}-${randomBytes(4).toString('hex')}`,
    planDigest: plan.digest,
    specFile: resolve(plan.spec.file),
    startedAt,
    scheduling,
  };
}

/** The next number that no run has, on any host that shares the store. */
async function freeNumber(
  runs: RunRegistry,
  { name, digest: planDigest }: Plan,
  known: { specText: string; startedAt: string },
): Promise<number> {
  for (;;) {
    const number = claimRunNumber(name);
    if (await runs.claim({ name, number, planDigest, ...known })) return number;
  }
}

/** @param priority that a command asks for in place of the spec's */
export const withPriority = (scheduling: Scheduling, priority: number | undefined): Scheduling => ({
  ...scheduling,
  ...(priority === undefined ? {} : { priority }),
});

export const identityOf = ({ name, number, workflowId, planDigest }: RunRecord): RunIdentity => ({
  ...{ name, number, workflowId, planDigest },
});

/** What the workflow of a run is started with, beside its arguments. */
export const workflowOptions = (
  { name, number, workflowId, planDigest, specFile, scheduling }: RunRecord,
  { nodes }: Pick<Plan, 'nodes'>,
  typedSearchAttributes: SearchAttributePair[],
): RunWorkflowOptions => ({
  workflowId,
  workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
  staticSummary: `${name}/${number}: ${nodes.length} instances`,
  staticDetails: `Spec \`${specFile}\`, plan \`${planDigest}\``,
  typedSearchAttributes,
  // Of one priority, experiments take turns.
  priority: { fairnessKey: name, ...(scheduling?.priority && { priorityKey: scheduling.priority }) },
});

export const limitsOf = ({ scheduling }: RunRecord): Partial<RunLimits> =>
  scheduling?.limits ? { atATime: scheduling.limits } : {};
