/** @file The task queues that a worker takes tasks from: more may come while it runs. */

import type { Worker } from '@temporalio/worker';

export class StepQueues {
  /** Rejects when one of its workers fails; resolves when all have ended after `shutDown`. */
  readonly ended: Promise<void>;
  private readonly create: (taskQueue: string) => Promise<Worker>;
  private readonly workers = new Map<string, Worker | null>();
  private isOver = false;
  /** Workers that run, or are made. */
  private count = 0;
  private end: { resolve: () => void; reject: (error: unknown) => void } = undefined!;

  constructor(create: (taskQueue: string) => Promise<Worker>) {
    this.create = create;
    this.ended = new Promise((resolve, reject) => (this.end = { resolve, reject }));
    // Whoever waits for it hears of a failure; until then it is no unhandled one.
    this.ended.catch(() => undefined);
  }

  /** Takes tasks of these queues, too. */
  async serve(taskQueues: readonly string[]): Promise<void> {
    for (const taskQueue of taskQueues) {
      if (this.isOver || this.workers.has(taskQueue)) continue;
      this.count += 1;
      this.workers.set(taskQueue, null);
      try {
        const worker = await this.create(taskQueue);
        this.workers.set(taskQueue, worker);
        this.run(worker);
      } catch (error) {
        this.workers.delete(taskQueue);
        this.leave();
        throw error;
      }
    }
  }

  names(): string[] {
    return [...this.workers.keys()];
  }

  shutDown(): void {
    this.isOver = true;
    for (const worker of this.workers.values()) if (worker?.getState() === 'RUNNING') worker.shutdown();
    if (this.count === 0) this.end.resolve();
  }

  private run(worker: Worker): void {
    worker.run().then(
      () => this.leave(),
      (error: unknown) => this.end.reject(error),
    );
    if (this.isOver) worker.shutdown();
  }

  private leave(): void {
    this.count -= 1;
    if (this.isOver && this.count === 0) this.end.resolve();
  }
}
