/** @file When a checkpoint is due. */

import type { CheckpointInterval } from '../schemas/step-params.ts';

export class CheckpointClock {
  private readonly interval: CheckpointInterval;
  private last = Date.now();

  constructor(interval: CheckpointInterval) {
    this.interval = interval;
  }

  /** @param done steps */
  isDue(done: number): boolean {
    const { steps, seconds } = this.interval;
    return done % steps === 0 || Date.now() - this.last > 1_000 * seconds;
  }

  /** A checkpoint was written. */
  restart(): void {
    this.last = Date.now();
  }
}
