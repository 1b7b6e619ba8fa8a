/** @file The mechanism that a training step must run, from its plan node. */

import { readNoiseKey } from '../privacy/noise-key.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset, PoissonGaussianMechanism, TrainingMechanism } from '../schemas/plan.ts';
import type { JobInput } from './job.ts';

/** What the parameters of a step say of its mechanism. */
interface StatedMechanism {
  epsilon: number | 'inf';
  steps: number;
  clip: number;
  batch: number;
  arithmetic: PoissonGaussianMechanism['arithmetic'];
}

/**
 * The mechanism that was reserved. Training on data that are not public without one is refused.
 *
 * @param dataset what is trained on; null when the records are synthetic.
 * @throws EpsilonflowError MECHANISM_MISMATCH
 */
export function reservedMechanism(
  { node }: Pick<JobInput, 'node'>,
  dataset: PlanDataset | null,
  stated: StatedMechanism,
): TrainingMechanism {
  if (dataset === null) return { kind: 'unbounded' };
  const mechanism = node.privacy?.mechanism;
  if (!mechanism) {
    if (dataset.sensitivity === 'public') return { kind: 'unbounded' };
    throw new EpsilonflowError('MECHANISM_MISMATCH', `${node.id} has no mechanism for a dataset that is not public.`);
  }
  const agrees =
    mechanism.kind === 'unbounded'
      ? stated.epsilon === 'inf'
      : stated.epsilon !== 'inf' &&
        mechanism.steps === stated.steps &&
        mechanism.clipNorm === stated.clip &&
        mechanism.expectedBatchSize === stated.batch &&
        mechanism.arithmetic === stated.arithmetic;
  if (!agrees) {
    throw new EpsilonflowError('MECHANISM_MISMATCH', `The mechanism of ${node.id} differs from its parameters.`);
  }
  return mechanism;
}

/** The secret of the step's sampling and noise. @throws EpsilonflowError RECEIPT_INVALID, NOISE_KEY_LOST */
export async function noiseSecret({ node, noiseKeyFile }: JobInput): Promise<{ key: Buffer; nodeKey: string }> {
  if (!noiseKeyFile) throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} has no noise key.`);
  return { key: await readNoiseKey(noiseKeyFile), nodeKey: node.key };
}
