/** @file The process of a step as its activity sees it: what it tells goes on, and whoever asks it to stop is obeyed. */

import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { doorOf } from '../tracking/door.ts';
import type { Authority } from './authority.ts';
import type { StepRequest } from './contract.ts';
import { stepError } from './errors.ts';
import { JobCancelled, type JobInput, type StepOutput } from './job.ts';
import { writeProgress } from './live-progress.ts';
import { thisProcess } from './process-identity.ts';
import { openStepLog } from './step-log.ts';
import { JobFailed, superviseJob } from './supervise-job.ts';
import { countCrash, writeClaim, type WorkFolder } from './work-folder.ts';
import { logEvents, runDirectory } from './worker-parts.ts';

/** A step whose process dies by itself so often is given up: the next time would be no better. */
const mostCrashes = 3;

/** Jobs of this worker that are running; a worker that shuts down stops them. */
const running = new Set<AbortController>();
let shuttingDown = false;

/** How long a job may take to write its checkpoint and end, milliseconds: a step that is asked to stop, and all of them when the worker is. */
const stepGrace = 7_000;
const shutdownGrace = 30_000;

/** Asks every running job to write a checkpoint and end; their activities then fail in a way that is tried again. */
export function stopRunningJobs(): void {
  shuttingDown = true;
  for (const controller of running) controller.abort(shutdownGrace);
}

export async function superviseStep(
  plan: Plan,
  input: JobInput,
  request: StepRequest,
  work: WorkFolder,
  authority: Authority | null,
): Promise<StepOutput> {
  const { node } = input;
  const { run } = request;
  const activity = Context.current();
  const door = doorOf(plan, node);
  const logFile = await openStepLog(request.run, node);
  const controller = new AbortController();
  const abort = (): void => controller.abort(shuttingDown ? shutdownGrace : stepGrace);
  if (activity.cancellationSignal.aborted || shuttingDown) abort();
  activity.cancellationSignal.addEventListener('abort', abort, { once: true });
  running.add(controller);
  const free = (): Promise<void> => Promise.resolve();
  let written = '';
  try {
    return await superviseJob({
      input,
      logFile,
      signal: controller.signal,
      hooks: {
        started: (job) =>
          writeClaim(work, {
            worker: thisProcess(),
            job,
            taskToken: activity.info.base64TaskToken,
            nodeId: node.id,
            workflowId: run.workflowId,
            attempt: activity.info.attempt,
          }),
        alive: (progress) => {
          const told = progress && door.progress(progress);
          activity.heartbeat(told);
          // Private records: writing again what is there already would tell of each microbatch.
          const line = JSON.stringify(told);
          if (told && line !== written) writeProgress(runDirectory(run), node, told);
          written = line;
        },
        metrics: (points) =>
          logEvents(
            run,
            plan,
            points.map((point) => ({ type: 'metric', node: node.id, ...point })),
          ),
        announceStep: authority?.announceStep ?? free,
        checkFence: authority?.checkFence ?? free,
      },
    });
  } catch (error) {
    if (error instanceof JobFailed) throw stepError(error.fault, door, logFile);
    if (error instanceof JobCancelled) throw interruption(activity);
    if (error instanceof EpsilonflowError && ['JOB_CRASHED', 'OUT_OF_MEMORY'].includes(error.code)) {
      giveUpAfterCrashes(error, await countCrash(work, run.workflowId), logFile);
    }
    throw error;
  } finally {
    running.delete(controller);
    activity.cancellationSignal.removeEventListener('abort', abort);
  }
}

/** A stopped job is either cancelled for good, or its worker shuts down and another goes on. */
function interruption(activity: Context): Error {
  if (activity.cancellationSignal.aborted && !shuttingDown) return new CancelledFailure('The step was cancelled.');
  return ApplicationFailure.create({
    type: 'WORKER_STOPPED' satisfies ErrorCode,
    message: 'The worker was stopped; the step goes on from its checkpoint when a worker is there again.',
  });
}

function giveUpAfterCrashes(error: EpsilonflowError, crashes: number, logFile: string): void {
  if (crashes < mostCrashes) return;
  throw ApplicationFailure.create({
    type: error.code,
    nonRetryable: true,
    message: `${error.message} That was time number ${crashes}, so it is given up.`,
    details: [{ hint: `${errorCodes[error.code].remedy} Its log is ${logFile}, on the worker's host.` }],
  });
}
