/** @file When a checkpoint is due: after so many steps, or a minute if that is sooner. */

const interval = 60_000;

export class CheckpointClock {
  private readonly steps: number;
  private last = Date.now();

  constructor(steps: number) {
    this.steps = steps;
  }

  /** @param done steps */
  isDue(done: number): boolean {
    return done % this.steps === 0 || Date.now() - this.last > interval;
  }

  /** A checkpoint was written. */
  restart(): void {
    this.last = Date.now();
  }
}
