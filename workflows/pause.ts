/** @file A pause of steps: what runs ends at a checkpoint, and begins again from there when the run is resumed. */

import { ActivityFailure, CancellationScope, condition, defineSignal, isCancellation } from '@temporalio/workflow';

/** Of an experiment to its children: whether the run is paused. */
export const pausedSignal = defineSignal<[boolean]>('paused');

export class Pause {
  private paused: boolean;
  private isHeld = false;
  private readonly attempts = new Set<CancellationScope>();

  constructor(paused = false) {
    this.paused = paused;
  }

  get isPaused(): boolean {
    return this.paused;
  }

  /** Whether no step is being done. */
  get isIdle(): boolean {
    return this.attempts.size === 0;
  }

  set(paused: boolean): void {
    this.paused = paused;
    if (paused) this.stop();
  }

  /** Stops all steps for good, whether there is a pause or not. */
  hold(): void {
    this.isHeld = true;
    this.stop();
  }

  private stop(): void {
    for (const attempt of this.attempts) attempt.cancel();
  }

  /**
   * Does the work of a step as soon as there is no pause. A pause cancels it, and it is done again afterwards.
   *
   * @param work gets the number of pauses that stopped it before
   * @param before pauses that stopped it in an earlier history
   */
  async around<T>(work: (pauses: number) => Promise<T>, before = 0): Promise<T> {
    for (let pauses = before; ; pauses += 1) {
      if (this.paused || this.isHeld) await condition(() => !this.paused && !this.isHeld);
      const attempt = new CancellationScope();
      this.attempts.add(attempt);
      try {
        return await attempt.run(() => work(pauses));
      } catch (error) {
        if (!wasStopped(attempt, error) || CancellationScope.current().consideredCancelled) throw error;
      } finally {
        this.attempts.delete(attempt);
      }
    }
  }
}

/** Also where its worker died meanwhile: Temporal tries again nothing that was asked to stop. */
const wasStopped = (attempt: CancellationScope, error: unknown): boolean =>
  attempt.consideredCancelled &&
  (isCancellation(error) || (error instanceof ActivityFailure && error.retryState === 'CANCEL_REQUESTED'));
