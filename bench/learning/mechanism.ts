/** @file The mechanism of the steps that are measured. */

import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';

/** Every record is in each batch, so that all steps do the same work. */
export const wholeBatches = (
  batch: number,
  arithmetic: PoissonGaussianMechanism['arithmetic'],
): PoissonGaussianMechanism => ({
  kind: 'poisson-gaussian',
  samplingProbability: 1,
  noiseMultiplier: 1,
  steps: 1,
  clipNorm: 1,
  expectedBatchSize: batch,
  arithmetic,
});
