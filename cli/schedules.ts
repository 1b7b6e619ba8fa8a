/** @file Schedules of Temporal that run specs: made, listed with what became of their firings, and deleted. */

import {
  type Client,
  ScheduleAlreadyRunning,
  type ScheduleDescription,
  type ScheduleExecutionResult,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
} from '@temporalio/client';
import type { ScheduledSpec } from '../activities/contract.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { ensureTemporal } from '../stack/services.ts';
import { stateOf } from '../tracking/run-summary.ts';
import { type FiringFault, forgetFirings, readFirings } from '../tracking/firings.ts';
import { listRuns, type RunFolder } from '../tracking/runs.ts';
import { taskQueues } from '../workflows/task-queues.ts';
import { errorRecords } from './output.ts';
import { summaryOf } from './run-outcome.ts';
import { connectTemporal, runError, workflowState } from './temporal-client.ts';

const workflowType = 'scheduledRun';

/** Of a firing: as its run is, when it has one. */
interface FiringStatus {
  /** When it was due, ISO 8601, UTC. */
  time: string;
  workflowId: string;
  /** `starting`: no worker has compiled the spec yet; `skipped`: `run` of the same plan was under way. */
  status: ReturnType<typeof stateOf> | 'starting' | 'refused' | 'skipped' | 'removed' | 'unknown';
  run: string | null;
  errors: FiringFault[];
}

export interface ScheduleStatus {
  schedule: string;
  spec: string;
  profile: string | null;
  cron: string;
  agreed: ScheduledSpec['agreed'];
  next: string | null;
  paused: boolean;
  /** Firings left out because the one before still ran. */
  skipped: number;
  /** Firings left out because the server was down for longer than the catch-up window. */
  missed: number;
  /** The last ones, newest first. */
  firings: FiringStatus[];
}

export async function withSchedules<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connectTemporal(await ensureTemporal());
  try {
    return await work(client);
  } finally {
    await client.connection.close();
  }
}

export function requireScheduleName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) return;
  throw new EpsilonflowError('ARGUMENT_INVALID', `"${name}" cannot be the name of a schedule.`, {
    hint: 'It has letters, digits, ".", "_" and "-", at most 64, and begins with a letter or digit.',
  });
}

/** @returns when it fires next. @throws EpsilonflowError ARGUMENT_INVALID for a name that is taken, or for no times */
export async function createSchedule(client: Client, spec: ScheduledSpec): Promise<string> {
  const { schedule: name, cron, specFile } = spec;
  try {
    const handle = await client.schedule.create({
      scheduleId: name,
      spec: { cronExpressions: [cron] },
      action: {
        type: 'startWorkflow',
        workflowType,
        args: [spec],
        taskQueue: taskQueues.control,
        workflowId: `schedule/${name}`,
        staticSummary: `Firing of schedule ${name}`,
        staticDetails: `Spec \`${specFile}\` at \`${cron}\``,
      },
      policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '10 minutes' },
    });
    const next = nextOf(await handle.describe());
    if (next !== null) return next;
    await handle.delete();
  } catch (error) {
    throw creationError(error, spec);
  }
  throw new EpsilonflowError('ARGUMENT_INVALID', `"${cron}" names no time that is to come.`, { hint: cronHint });
}

const cronHint = 'Five fields: minute, hour, day of the month, month, weekday; "0 3 * * MON" is Mondays at three, UTC.';

function creationError(error: unknown, { schedule, cron }: ScheduledSpec): unknown {
  if (error instanceof ScheduleAlreadyRunning) {
    return new EpsilonflowError('ARGUMENT_INVALID', `There is a schedule ${schedule} already.`, {
      hint: `Give another name with --name, or end it: epsilonflow schedule delete ${schedule}.`,
    });
  }
  // So the client tells of a specification that the server refuses.
  if (!(error instanceof TypeError)) return error;
  const why = error.message.replace(/\.$/, '');
  return new EpsilonflowError('ARGUMENT_INVALID', `"${cron}" is no cron expression: ${why}.`, { hint: cronHint });
}

const nextOf = ({ info }: ScheduleDescription): string | null => info.nextActionTimes[0]?.toISOString() ?? null;

/** Names of those that run specs. Temporal lists a new one after a moment. */
async function scheduleNames(client: Client): Promise<string[]> {
  const names: string[] = [];
  for await (const { scheduleId, action } of client.schedule.list()) {
    if (action?.workflowType === workflowType) names.push(scheduleId);
  }
  return names.sort();
}

/** Null when there is none of that name that runs a spec. */
async function findSchedule(client: Client, name: string): Promise<ScheduleDescription | null> {
  try {
    const description = await client.schedule.getHandle(name).describe();
    return description.action.workflowType === workflowType ? description : null;
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return null;
    throw error;
  }
}

export async function listSchedules(client: Client): Promise<ScheduleStatus[]> {
  const runs = new Map(listRuns().flatMap((run) => (run.record.firing ? [[run.record.firing, run] as const] : [])));
  const found = await Promise.all((await scheduleNames(client)).map((name) => findSchedule(client, name)));
  return Promise.all(found.filter((each) => each !== null).map((each) => statusOf(client, each, runs)));
}

async function statusOf(
  client: Client,
  description: ScheduleDescription,
  runs: ReadonlyMap<string, RunFolder>,
): Promise<ScheduleStatus> {
  const { scheduleId, state, info, action } = description;
  const [{ specFile, profile, cron, agreed }] = action.args as [ScheduledSpec];
  const recent = [...info.recentActions].reverse();
  return {
    schedule: scheduleId,
    spec: specFile,
    profile,
    cron,
    agreed,
    next: nextOf(description),
    paused: state.paused,
    skipped: info.numActionsSkippedOverlap,
    missed: info.numActionsMissedCatchupWindow,
    firings: await Promise.all(recent.map((taken) => firingStatus(client, scheduleId, taken, runs))),
  };
}

async function firingStatus(
  client: Client,
  schedule: string,
  { scheduledAt, action }: ScheduleExecutionResult,
  runs: ReadonlyMap<string, RunFolder>,
): Promise<FiringStatus> {
  const { workflowId } = action.workflow;
  const firing = { time: scheduledAt.toISOString(), workflowId, run: null, errors: [] };
  const folder = runs.get(workflowId);
  if (folder) {
    const { name, number } = folder.record;
    return { ...firing, status: stateOf(summaryOf(folder.directory)), run: `${name}/${number}` };
  }
  const record = readFirings(schedule).get(workflowId);
  if (record?.end === 'refused') return { ...firing, status: 'refused', errors: record.errors };
  if (record?.end === 'under-way') return { ...firing, status: 'skipped', run: record.run };
  if (record) return { ...firing, status: 'removed', run: record.run };
  const state = await workflowState(client, workflowId);
  if (state === 'running') return { ...firing, status: 'starting' };
  if (state === 'unknown') return { ...firing, status: 'unknown' };
  const errors = await client.workflow
    .getHandle(workflowId)
    .result()
    .then(
      () => [],
      (error: unknown) => errorRecords(runError(error)),
    );
  return { ...firing, status: 'failed', errors };
}

/** @throws EpsilonflowError ARGUMENT_INVALID when there is no such schedule */
export async function deleteSchedule(client: Client, name: string): Promise<void> {
  if ((await findSchedule(client, name)) === null) {
    const known = await scheduleNames(client);
    throw new EpsilonflowError('ARGUMENT_INVALID', `There is no schedule ${name}.`, {
      hint: known.length === 0 ? 'There is none.' : `There ${known.length === 1 ? 'is' : 'are'}: ${known.join(', ')}.`,
    });
  }
  await client.schedule.getHandle(name).delete();
  forgetFirings(name);
}
