/**
 * @file Main program of a step's own process. It takes one job over IPC, runs the code of the step's kind, and ends.
 * It never outlives its worker: it ends when the channel closes, and a thread of its own watches for the case that
 * the main thread is deep in native code then.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { StepKind } from '../schemas/plan.ts';
import { systemError } from '../schemas/system-errors.ts';
import { faultOf, errorOf } from './errors.ts';
import {
  JobCancelled,
  type AnnouncedCharge,
  type JobContext,
  type JobInput,
  type JobProgress,
  type StepOutput,
  type StepRunner,
} from './job.ts';
import type { FromJob, JobFault, MetricPoint, ToJob } from './job-messages.ts';

const kinds: { [K in StepKind]: () => Promise<{ run: StepRunner<K> }> } = {
  decontaminate: () => import('./decontaminate.ts'),
  pretrain: () => import('./pretrain.ts'),
  finetune: () => import('./finetune.ts'),
  generate: () => import('./generate.ts'),
  'train-classifier': () => import('./train-classifier.ts'),
  measure: () => import('./measure.ts'),
  audit: () => import('./audit.ts'),
  compare: () => import('./compare.ts'),
};

/** Progress and metrics are sent at most so often, milliseconds. */
const sendEvery = 100;

const send = (message: FromJob): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send!(message, undefined, undefined, (error) => (error ? reject(error) : resolve()));
  });

class ConnectedContext implements JobContext {
  stopping = false;
  private latest: JobProgress | null = null;
  private lastSent = { phase: '', time: 0 };
  private points: MetricPoint[] = [];
  private readonly pending = new Map<number, (fault: JobFault | null) => void>();
  private nextId = 1;

  progress(progress: JobProgress): void {
    this.latest = progress;
    if (progress.phase !== this.lastSent.phase || Date.now() - this.lastSent.time >= sendEvery) this.flush();
  }

  metric(name: string, value: number, step: number): void {
    this.points.push({ name, value, step, time: Date.now() });
    if (Date.now() - this.lastSent.time >= sendEvery) this.flush();
  }

  flush(): void {
    if (this.latest) {
      void send({ type: 'progress', progress: this.latest });
      this.lastSent.phase = this.latest.phase;
      this.latest = null;
    }
    if (this.points.length > 0) {
      void send({ type: 'metrics', points: this.points });
      this.points = [];
    }
    this.lastSent.time = Date.now();
  }

  async breathe(): Promise<void> {
    // The step sees `stopping` before this throws, so that it can write a last checkpoint.
    const asked = this.stopping;
    await nextTurn();
    if (asked) throw new JobCancelled();
  }

  announceStep(step: number, stateDigest: string, charge: AnnouncedCharge, batchSize: number | null): Promise<void> {
    return this.ask((id) => ({ type: 'announce-step', id, step, stateDigest, charge, batchSize }));
  }

  checkFence(): Promise<void> {
    return this.ask((id) => ({ type: 'check-fence', id }));
  }

  reply(id: number, fault: JobFault | null): void {
    this.pending.get(id)?.(fault);
    this.pending.delete(id);
  }

  private async ask(message: (id: number) => FromJob): Promise<void> {
    const id = this.nextId;
    this.nextId += 1;
    const answer = new Promise<JobFault | null>((resolve) => this.pending.set(id, resolve));
    await send(message(id));
    const fault = await answer;
    if (fault) throw errorOf(fault);
  }
}

const context = new ConnectedContext();

async function runKind<K extends StepKind>(kind: K, input: JobInput<K>): Promise<StepOutput> {
  const { run } = await kinds[kind]();
  return run(input, context);
}

async function runJob(input: JobInput): Promise<void> {
  let last: FromJob;
  try {
    const output = await runKind(input.node.kind, input);
    last = { type: 'result', output };
  } catch (error) {
    if (error instanceof JobCancelled) last = { type: 'cancelled' };
    else {
      // The log lies in the private store; what goes to the worker is stripped there.
      console.error(error);
      last = { type: 'fault', fault: faultOf(systemError(error, input.outputDirectory)) };
    }
  }
  context.flush();
  await send(last);
  process.exit(0);
}

function watchParent(): void {
  const watch = `
    const { workerData } = require('node:worker_threads');
    setInterval(() => { if (process.ppid !== workerData) process.kill(process.pid, 'SIGKILL'); }, 500);
  `;
  new Worker(watch, { eval: true, workerData: process.ppid, execArgv: [], env: {} }).unref();
}

if (!process.send) {
  console.error('This program is started by a worker of Epsilonflow: run `epsilonflow worker`.');
  process.exit(2);
}
process.on('disconnect', () => process.exit(1));
process.on('SIGTERM', () => {
  context.stopping = true;
});
// Ctrl-C in the worker's terminal reaches the whole process group; the worker decides what becomes of its jobs.
process.on('SIGINT', () => undefined);
process.on('message', (message: ToJob) => {
  if (message.type === 'start') void runJob(message.input);
  else if (message.type === 'stop') context.stopping = true;
  else context.reply(message.id, message.fault);
});
watchParent();
