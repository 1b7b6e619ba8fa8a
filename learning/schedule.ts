/** @file Learning rate over the course of training. */

export interface Schedule {
  /** Largest rate. */
  lr: number;
  /** Steps of linear rise. */
  warmup: number;
  /** How it falls after them; `constant`: not at all. */
  decay: 'linear' | 'cosine' | 'constant';
  /** Rate of the last step over the largest; plays no part when it is constant. */
  finalLr: number;
  steps: number;
}

/**
 * Learning rate of a step (from 0): linear warm-up to `lr`, then to `lr * finalLr` at the last step in a line or in half a
 * cosine (Loshchilov and Hutter 2017, arXiv:1608.03983).
 */
export function learningRate({ lr, warmup, decay, finalLr, steps }: Schedule, step: number): number {
  if (step < warmup) return (lr * (step + 1)) / warmup;
  const falling = steps - 1 - warmup;
  const progress = falling > 0 ? Math.min(1, (step - warmup) / falling) : 1;
  switch (decay) {
    case 'linear':
      return lr * (1 - (1 - finalLr) * progress);
    case 'cosine':
      return lr * (finalLr + (1 - finalLr) * 0.5 * (1 + Math.cos(Math.PI * progress)));
    case 'constant':
      return lr;
  }
}
