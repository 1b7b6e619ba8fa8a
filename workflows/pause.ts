/** @file A pause of steps: what runs ends at a checkpoint, and begins again from there when the run is resumed. */

import { ActivityFailure, CancellationScope, condition, defineSignal, isCancellation } from '@temporalio/workflow';

/** Of an experiment to its children: whether the run is paused. */
export const pausedSignal = defineSignal<[boolean]>('paused');

export class Pause {
  private isPaused = false;
  private readonly attempts = new Set<CancellationScope>();

  set(paused: boolean): void {
    this.isPaused = paused;
    if (paused) for (const attempt of this.attempts) attempt.cancel();
  }

  /**
   * Does the work of a step as soon as there is no pause. A pause cancels it, and it is done again afterwards.
   *
   * @param work gets the number of pauses that stopped it before
   */
  async around<T>(work: (pauses: number) => Promise<T>): Promise<T> {
    for (let pauses = 0; ; pauses += 1) {
      if (this.isPaused) await condition(() => !this.isPaused);
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
