/** @file Early stopping by a part of the training data; test data play no part. */

import type { KeyedStream } from '../../privacy/noise.ts';

/** Share of the training data that decides when to stop, and the most records that it takes. */
const validationShare = 0.1;
const validationLimit = 5_000;
/** Checks in an epoch, and checks without improvement after which training ends. */
const checksAnEpoch = 2;
const patience = 3;

/** Batches between two checks. */
export const checkEvery = (batchesAnEpoch: number): number => Math.max(1, Math.ceil(batchesAnEpoch / checksAnEpoch));

/** Draws the records that decide. */
export function splitOff(count: number, stream: KeyedStream): { training: Int32Array; validation: Int32Array } {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  shuffle(order, stream);
  const held = Math.min(validationLimit, Math.floor(count * validationShare));
  return { training: order.slice(held), validation: order.slice(0, held) };
}

/** Fisher-Yates; leaves a permutation of what was there. */
export function shuffle(values: Int32Array, stream: KeyedStream): void {
  for (let index = values.length - 1; index > 0; index--) {
    const other = Math.floor(stream.uniform() * (index + 1));
    const value = values[index]!;
    values[index] = values[other]!;
    values[other] = value;
  }
}

/** Keeps the state of the check with the highest accuracy; of equal ones, that with the lower loss. */
export class BestState<S> {
  private best: { accuracy: number; loss: number; state: S } | null = null;
  private worse = 0;

  /** @param state copied when this check is the best so far */
  observe({ accuracy, loss }: { accuracy: number; loss: number }, state: () => S): void {
    const { best } = this;
    if (best === null || accuracy > best.accuracy || (accuracy === best.accuracy && loss < best.loss)) {
      this.best = { accuracy, loss, state: state() };
      this.worse = 0;
    } else this.worse += 1;
  }

  /** Whether training is to end. */
  get isOver(): boolean {
    return this.worse >= patience;
  }

  /** Null before the first check. */
  get state(): S | null {
    return this.best?.state ?? null;
  }
}
