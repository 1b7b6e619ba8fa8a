/**
 * @file Prepares the run of a schedule's firing. The spec is compiled in a process of its own: reading data and
 * calibrating noise take seconds in which the worker must answer for its jobs.
 */

import { fork, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { Context } from '@temporalio/activity';
import { EpsilonflowError } from '../schemas/errors.ts';
import { packageRoot, statePaths } from '../stack/paths.ts';
import { makePrivateFolder } from '../store/disk.ts';
import type { ControlActivities, PreparedFiring, ScheduledSpec } from './contract.ts';
import { errorOf, wholeIn } from './errors.ts';
import type { JobFault } from './job-messages.ts';

/** What the process is sent, and what it answers. */
export interface FiringRequest {
  spec: ScheduledSpec;
  firing: string;
}
export type FiringReply = { prepared: PreparedFiring } | { fault: JobFault };

/** By path: it belongs to the command line, which a worker does not know. */
const firingProcess = join(packageRoot, 'cli', 'firing-process.ts');
const typescriptLoader = import.meta.resolve('tsx');

/** Well below the timeout after which Temporal takes the worker for dead; milliseconds. */
const heartbeatEvery = 10_000;

export const scheduling: Pick<ControlActivities, 'prepareFiring'> = {
  async prepareFiring(spec, firing) {
    const { cancellationSignal, heartbeat } = Context.current();
    await makePrivateFolder(statePaths.privateStore());
    const logFile = join(statePaths.privateStore(), 'schedules.log');
    const child = start(logFile);
    const stop = (): void => void child.kill('SIGKILL');
    const beating = setInterval(() => heartbeat(), heartbeatEvery);
    cancellationSignal.addEventListener('abort', stop, { once: true });
    try {
      const reply = await answerOf(child, { spec, firing });
      cancellationSignal.throwIfAborted();
      if (reply === null) {
        throw new EpsilonflowError('JOB_CRASHED', 'The process that compiles the spec ended unexpectedly.', {
          hint: wholeIn(logFile),
        });
      }
      if ('fault' in reply) throw errorOf(reply.fault);
      return reply.prepared;
    } finally {
      clearInterval(beating);
      cancellationSignal.removeEventListener('abort', stop);
      stop();
    }
  },
};

function start(logFile: string): ChildProcess {
  const log = openSync(logFile, 'a', 0o600);
  try {
    return fork(firingProcess, [], {
      cwd: packageRoot,
      execArgv: ['--import', typescriptLoader],
      stdio: ['ignore', log, log, 'ipc'],
    });
  } finally {
    closeSync(log);
  }
}

/** @returns null when the process ended without an answer */
function answerOf(child: ChildProcess, request: FiringRequest): Promise<FiringReply | null> {
  return new Promise((resolve, reject) => {
    let reply: FiringReply | null = null;
    child.once('message', (message) => (reply = message as FiringReply));
    child.once('error', reject);
    // All that it said has arrived by then.
    child.once('close', () => resolve(reply));
    child.send(request, () => undefined);
  });
}
