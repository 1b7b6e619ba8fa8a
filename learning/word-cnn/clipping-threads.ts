/**
 * @file Sums of clipped gradients by several threads. Contributions are integers, so a sum is the same to the last bit
 * however texts fall to threads; losses are added in the order of the batch.
 */

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

import { EpsilonflowError } from '../../schemas/errors.ts';
import { done, handedOut, newClippingMemory, sharedDoubles } from './clipping-memory.ts';
import type { BatchTask, ClippingMemory, ThreadReport, ThreadStart } from './clipping-memory.ts';
import type { WordCnn } from './network.ts';
import type { EncodedTexts } from './words.ts';

/** Loaders that a process has set up do not hold for its threads, and this one starts faster than that for modules. */
const bootstrap = `
  const { loader, program } = require('node:worker_threads').workerData;
  require(loader).require(program, program);
`;
const loader = createRequire(import.meta.url).resolve('tsx/cjs/api');
const program = fileURLToPath(new URL('./clipping-thread.ts', import.meta.url));

interface Member {
  worker: Worker;
  sums: Float64Array;
}

function addAll(sums: Float64Array, own: Float64Array): void {
  for (let at = 0; at < sums.length; at++) sums[at]! += own[at]!;
}

export class ClippingThreads {
  private readonly model: WordCnn;
  private readonly memory: ClippingMemory;
  private readonly members: readonly Member[];
  private idle = 0;
  private failure: EpsilonflowError | null = null;
  private ended = false;
  private wake = (): void => undefined;

  constructor(
    model: WordCnn,
    data: { texts: EncodedTexts; labels: Int32Array },
    settings: { clipNorm: number; threads: number },
  ) {
    this.model = model;
    this.memory = newClippingMemory(model.shape, data, settings.clipNorm);
    this.members = Array.from({ length: settings.threads }, () => this.start());
  }

  get workers(): Worker[] {
    return this.members.map(({ worker }) => worker);
  }

  private start(): Member {
    const sums = sharedDoubles(this.memory.weights.length);
    const start: ThreadStart = { memory: this.memory, sums };
    const worker = new Worker(bootstrap, { eval: true, execArgv: [], workerData: { loader, program, ...start } });
    worker.on('message', (report: ThreadReport) => {
      if (report === 'idle') this.idle += 1;
      this.wake();
    });
    worker.on('error', (cause) => this.fail(cause));
    worker.on('exit', () => this.fail());
    return { worker, sums };
  }

  private fail(cause?: unknown): void {
    if (this.ended) return;
    this.failure ??= new EpsilonflowError('JOB_CRASHED', 'A thread of the training ended before its work was done.', {
      hint: 'The step goes on from its last checkpoint. If this repeats, look at its log: epsilonflow logs.',
      cause,
    });
    this.wake();
  }

  private async until(isSo: () => boolean): Promise<void> {
    for (;;) {
      if (this.failure) throw this.failure;
      if (isSo()) return;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }

  /**
   * Adds the clipped gradients of some texts at the present weights to `sums`, one vector in whole steps of the grid.
   * Returns the sum of their losses, nats.
   *
   * @param between called after each microbatch; may throw, after which nothing but `end` may be called.
   * @throws EpsilonflowError JOB_CRASHED when a thread has died; nothing was added then
   */
  async add(
    drawn: Int32Array,
    sums: Float64Array,
    microbatch: number,
    between: (microbatch: number) => Promise<void>,
  ): Promise<number> {
    const { memory, members } = this;
    const texts = drawn.length;
    this.handOut(drawn, microbatch);
    for (let number = 1; (number - 1) * microbatch < texts; number++) {
      const reached = Math.min(texts, number * microbatch);
      await this.until(() => Atomics.load(memory.counters, done) >= reached);
      await between(number);
    }
    // Not before: a thread that has nothing to do clears its sums all the same.
    await this.until(() => this.idle === members.length);
    for (const { sums: own } of members) addAll(sums, own);
    let loss = 0;
    for (let at = 0; at < texts; at++) loss += memory.losses[at]!;
    return loss;
  }

  private handOut(drawn: Int32Array, microbatch: number): void {
    const { model, memory } = this;
    memory.weights.set(model.weights.flat);
    memory.products.set(model.vocabularyProducts());
    memory.drawn.set(drawn);
    Atomics.store(memory.counters, handedOut, 0);
    Atomics.store(memory.counters, done, 0);
    this.idle = 0;
    for (const { worker } of this.members) worker.postMessage({ texts: drawn.length, microbatch } satisfies BatchTask);
  }

  /** Ends all threads, also in the middle of their work. */
  async end(): Promise<void> {
    this.ended = true;
    await Promise.all(this.members.map(({ worker }) => worker.terminate()));
  }
}
