/** @file Learning rate over the course of pre-training. */

export interface LearningRateSchedule {
  /** Largest rate. */
  peak: number;
  steps: number;
  /** Fraction of the steps in which the rate rises linearly. */
  warmup: number;
  /** Rate at the end over the peak. */
  final: number;
}

/** Linear warm-up, then half a cosine down (Loshchilov and Hutter 2017). Steps count from 0. */
export function learningRateAt(step: number, { peak, steps, warmup, final }: LearningRateSchedule): number {
  const rising = Math.round(steps * warmup);
  if (step < rising) return (peak * (step + 1)) / rising;
  const progress = steps - rising <= 1 ? 1 : (step - rising) / (steps - rising - 1);
  return peak * (final + (1 - final) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
