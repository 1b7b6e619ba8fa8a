/** @file What a step may tell of a test split: its exact table of classes, or one with charged noise. */

import { createHmac } from 'node:crypto';

import { accuracy, macroF1, majorityAccuracy, noisyProportionInterval, withoutNegatives } from '../measures/index.ts';
import { discreteLaplaceVariance, noisyCounts } from '../privacy/discrete-laplace.ts';
import { stepStreams } from '../privacy/noise.ts';
import { logSpending, sumsDigest } from '../privacy/spending-log.ts';
import type { ReleaseProof } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { DiscreteLaplaceMechanism, PlanDataset } from '../schemas/plan.ts';
import type { JobContext, JobInput } from './job.ts';
import { noiseSecret } from './reserved-mechanism.ts';

type Table = readonly (readonly number[])[];

export interface TestCounts {
  /** [classes][classes], row the true class; of a private split with noise, so cells may be negative. */
  confusion: Table;
  metrics: Record<string, number>;
  releaseProof?: ReleaseProof;
}

/**
 * The metrics of a test split from its exact table. Where the plan has a release, noise is added first and nothing else
 * is computed from the exact table.
 *
 * @throws EpsilonflowError MECHANISM_MISMATCH when a private split has neither a release nor a waiver.
 */
export async function testCounts(
  input: JobInput<'train-classifier'>,
  context: JobContext,
  testSet: PlanDataset,
  exact: Table,
): Promise<TestCounts> {
  const { node } = input;
  if (!node.release) {
    if (testSet.sensitivity === 'private' && !node.waivers.includes('test-metrics')) {
      throw new EpsilonflowError('MECHANISM_MISMATCH', `${node.id} has no mechanism for a private test split.`);
    }
    return { confusion: exact, metrics: metricsOf(exact) };
  }
  const { mechanism } = node.release;
  const { key, nodeKey } = await noiseSecret(input);
  // Keyed, for a plain digest of a few counts could be searched.
  const digest = createHmac('sha256', key)
    .update(JSON.stringify(['test counts', nodeKey, exact]))
    .digest();
  await context.announceStep(0, digest.toString('hex'), 'release', null);
  const { noise } = stepStreams(key, `${nodeKey}/release`, 0, digest);
  const confusion = noisyCounts(exact, mechanism, noise);
  const sums = sumsDigest({ counts: Float64Array.from(exact.flat()) });
  logSpending({ key, nodeKey: `${nodeKey}/release` }, { step: 0, digest, sums, mechanism });
  const { scale, sensitivity } = mechanism;
  return {
    confusion,
    metrics: { ...metricsOf(withoutNegatives(confusion)), ...noisyAccuracy(confusion, mechanism) },
    releaseProof: { sampler: 'none', scale, sensitivity },
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const metricsOf = (confusion: Table): Record<string, number> => ({
  accuracy: accuracy(confusion),
  macroF1: macroF1(confusion),
  majority: majorityAccuracy(confusion),
  testRecords: sum(confusion.map(sum)),
});

/** Accuracy without the bias that cutting cells at 0 has, and its interval. The number of records is a noisy sum too. */
function noisyAccuracy(confusion: Table, { scale }: DiscreteLaplaceMechanism): Record<string, number> {
  const testRecords = Math.max(1, sum(confusion.map(sum)));
  const hits = sum(confusion.map((row, index) => row[index]!));
  const share = Math.min(1, Math.max(0, hits / testRecords));
  const cells = confusion.length ** 2;
  const noise = { variance: discreteLaplaceVariance(scale), hits: confusion.length, cells };
  const { low, high } = noisyProportionInterval(share, testRecords, noise);
  return { accuracy: share, accuracyLow: low, accuracyHigh: high, testRecords };
}
