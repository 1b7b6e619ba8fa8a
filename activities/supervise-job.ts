/**
 * @file Runs one job in a process of its own and answers for it: passes its reports on, lets it stop gracefully when
 * asked, kills it when it hangs, and returns only when the process is gone.
 */

import { fork, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { processor } from '../learning/processor.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { packageRoot, statePaths } from '../stack/paths.ts';
import { faultOf } from './errors.ts';
import { JobCancelled, type JobContext, type JobInput, type JobProgress, type StepOutput } from './job.ts';
import type { FromJob, JobFault, MetricPoint, ToJob } from './job-messages.ts';
import { identifyProcess, type ProcessIdentity } from './process-identity.ts';

export interface JobHooks {
  started(job: ProcessIdentity): Promise<void>;
  /** Called on real progress, and every two seconds while a phase is within its declared bound. */
  alive(progress: JobProgress | null): void;
  metrics(points: MetricPoint[]): void;
  announceStep: JobContext['announceStep'];
  checkFence(): Promise<void>;
}

export interface SupervisedJob {
  input: JobInput;
  /** Gets what the process writes to stdout and stderr. */
  logFile: string;
  /** Asks the job to stop: it writes a checkpoint and ends. The reason is how long that may take, milliseconds. */
  signal: AbortSignal;
  hooks: JobHooks;
}

/** Thrown when the step's code reported an error; the activity decides how much of it may leave. */
export class JobFailed extends Error {
  override readonly name = 'JobFailed';
  readonly fault: JobFault;

  constructor(fault: JobFault) {
    super(fault.message);
    this.fault = fault;
  }
}

/** The longest time without progress, milliseconds, before a job counts as hung. */
const usualBound = 120_000;
const phaseBounds: Record<string, number> = { start: 300_000, load: 600_000, compile: 900_000, index: 600_000 };

/** How long a job may take to end when what it reports cannot be dealt with, milliseconds. */
const brokenGrace = 30_000;

/** Where compiled programs are kept: a folder for each kind of processor, since they hold its machine code. */
function compiledPrograms(): string {
  const name = createHash('sha256').update(processor()).digest('hex').slice(0, 12);
  return join(statePaths.xlaCache(), name);
}

const jobMain = fileURLToPath(new URL('./job-main.ts', import.meta.url));
const typescriptLoader = import.meta.resolve('tsx');

/**
 * @throws JobFailed when the step's code failed, JobCancelled when it stopped as asked, EpsilonflowError JOB_CRASHED
 *   or OUT_OF_MEMORY when its process died or hung, what a hook throws
 */
export async function superviseJob({ input, logFile, signal, hooks }: SupervisedJob): Promise<StepOutput> {
  const log = openSync(logFile, 'a', 0o600);
  const child = fork(jobMain, [], {
    cwd: packageRoot,
    execArgv: ['--import', typescriptLoader],
    stdio: ['ignore', log, log, 'ipc'],
    // The shared secret makes every key of every run: the job needs its own key alone.
    env: { ...process.env, EPSILONFLOW_RUN_SECRET: undefined, EPSILONFLOW_XLA_CACHE: compiledPrograms() },
  });
  closeSync(log);
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, exitSignal) => resolve({ code, signal: exitSignal }));
    child.once('error', () => resolve({ code: null, signal: null }));
  });
  const watch = new StallWatch(child, hooks);
  const killsBefore = killsForMemory();
  let killTimer: NodeJS.Timeout | undefined;
  let last: Extract<FromJob, { type: 'result' | 'cancelled' | 'fault' }> | null = null;
  let unheard: { error: unknown } | null = null;
  const tell = (message: ToJob): void => {
    if (child.connected) child.send(message, () => undefined);
  };
  const stop = (): void => {
    tell({ type: 'stop' });
    child.kill('SIGTERM');
    const grace = signal.aborted ? (signal.reason as number) : brokenGrace;
    killTimer ??= setTimeout(() => child.kill('SIGKILL'), grace);
  };
  const answer = async (id: number, work: Promise<void>): Promise<void> => {
    const fault = await work.then(
      () => null,
      (error: unknown) => faultOf(error),
    );
    tell({ type: 'reply', id, fault });
  };
  const hear = (message: FromJob): void => {
    switch (message.type) {
      case 'progress':
        return watch.advance(message.progress);
      case 'metrics':
        return hooks.metrics(message.points);
      case 'announce-step':
        return void answer(
          message.id,
          hooks.announceStep(message.step, message.stateDigest, message.charge, message.batchSize),
        );
      case 'check-fence':
        return void answer(message.id, hooks.checkFence());
      default:
        last = message;
    }
  };
  child.on('message', (message: FromJob) => {
    try {
      hear(message);
    } catch (error) {
      // Thrown out of an event it would end the worker, and stand whole in its log.
      unheard ??= { error };
      stop();
    }
  });
  try {
    const identity = child.pid === undefined ? null : identifyProcess(child.pid);
    if (identity) await hooks.started(identity);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    tell({ type: 'start', input });
    const end = await exited;
    if (unheard !== null) throw (unheard as { error: unknown }).error;
    const isOutOfMemory = end.signal === 'SIGKILL' && killsForMemory() > killsBefore;
    return conclude(last, { ...end, isOutOfMemory }, watch.stalledPhase, signal.aborted);
  } finally {
    signal.removeEventListener('abort', stop);
    clearTimeout(killTimer);
    watch.end();
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await exited;
    }
  }
}

function conclude(
  last: FromJob | null,
  end: { code: number | null; signal: NodeJS.Signals | null; isOutOfMemory: boolean },
  stalledPhase: string | null,
  stopAsked: boolean,
): StepOutput {
  if (last?.type === 'result') return last.output;
  if (last?.type === 'fault') throw new JobFailed(last.fault);
  if (last?.type === 'cancelled' || (stopAsked && !stalledPhase)) throw new JobCancelled();
  if (stalledPhase) {
    throw new EpsilonflowError(
      'JOB_CRASHED',
      `The step made no progress in its phase "${stalledPhase}" and was ended.`,
      {
        hint: 'It goes on from its last checkpoint. If this repeats, look at its log: epsilonflow logs.',
      },
    );
  }
  if (end.isOutOfMemory) {
    throw new EpsilonflowError('OUT_OF_MEMORY', 'The system ended the process of the step: memory ran out.', {
      hint: 'It goes on from its last checkpoint. If this repeats, lower its `memory`, or run fewer jobs at a time.',
    });
  }
  const how = end.signal ? `was ended by ${end.signal}` : `ended with exit code ${end.code}`;
  throw new EpsilonflowError('JOB_CRASHED', `The process of the step ${how}.`, {
    hint: 'It goes on from its last checkpoint. If this repeats, look at its log: epsilonflow logs.',
  });
}

/** Processes that Linux has ended for lack of memory since it started; 0 where it does not say. */
function killsForMemory(): number {
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Kills a job that stands still for longer than its phase may. */
class StallWatch {
  stalledPhase: string | null = null;
  private readonly child: ChildProcess;
  private readonly hooks: JobHooks;
  private progress: JobProgress | null = null;
  private movedAt = Date.now();
  private readonly timer: NodeJS.Timeout;

  constructor(child: ChildProcess, hooks: JobHooks) {
    this.child = child;
    this.hooks = hooks;
    // The answer to each sign of life tells whether the step is asked to stop.
    this.timer = setInterval(() => this.check(), 2_000);
  }

  advance(progress: JobProgress): void {
    const moved = progress.phase !== this.progress?.phase || progress.done !== this.progress.done;
    this.progress = progress;
    if (!moved) return;
    this.movedAt = Date.now();
    this.hooks.alive(progress);
  }

  private check(): void {
    const phase = this.progress?.phase ?? 'start';
    const bound = phaseBounds[phase] ?? usualBound;
    if (Date.now() - this.movedAt > bound) {
      this.stalledPhase = phase;
      this.child.kill('SIGKILL');
    } else this.hooks.alive(this.progress);
  }

  end(): void {
    clearInterval(this.timer);
  }
}
