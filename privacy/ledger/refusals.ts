/** @file The ledger's refusals: what is wrong, by how much, and what to do. Pure. */

import type { MechanismProof } from '../../schemas/artifact.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import type { Admission } from './ledger.ts';

export const corrupt = (what: string): EpsilonflowError =>
  new EpsilonflowError('LEDGER_CORRUPT', `The privacy ledger is damaged: ${what}.`, {
    hint: 'Restore it from a backup; do not spend on its datasets before.',
  });

export const fenced = (entry: { node_id: string }): EpsilonflowError =>
  new EpsilonflowError('FENCED', `A newer attempt has taken over ${entry.node_id}.`);

/** @param what is the matter with the noise key */
export const keyLost = (nodeId: string, what: string): EpsilonflowError =>
  new EpsilonflowError('NOISE_KEY_LOST', `The noise key of ${nodeId} ${what}, so it cannot go on.`, {
    hint: 'What was reserved for it stays charged. Run the spec again: the step starts anew, as a new ledger entry.',
  });

/** What a proof does not share with the reserved mechanism, in words; null when they agree. */
export function proofDifference(mechanism: Mechanism, proof: MechanismProof | null): string | null {
  if (mechanism.kind === 'unbounded') return proof === null ? null : 'it was reserved without DP';
  if (proof === null) return 'there is no proof';
  if (mechanism.kind === 'discrete-laplace') {
    if (proof.sampler !== 'none') return `sampler ${proof.sampler} instead of none`;
    for (const field of ['scale', 'sensitivity'] as const) {
      if (proof[field] !== mechanism[field]) return `${field} ${proof[field]} instead of ${mechanism[field]}`;
    }
    return null;
  }
  if (proof.sampler !== 'poisson') return `sampler ${String(proof.sampler)} instead of poisson`;
  const fields = [
    'samplingProbability',
    'noiseMultiplier',
    'clipNorm',
    'expectedBatchSize',
    'steps',
    'arithmetic',
  ] as const;
  for (const field of fields) {
    if (proof[field] !== mechanism[field]) return `${field} ${proof[field]} instead of ${mechanism[field]}`;
  }
  return null;
}

const short = (value: number): string => String(Number(value.toPrecision(4)));

export function refusal(verdict: Admission): EpsilonflowError {
  const { dataset, budget, delta, decisive, before, rule } = verdict;
  const limit = `its budget of ${budget} at delta ${short(delta)}`;
  if (decisive === null || budget === null) {
    return new EpsilonflowError('BUDGET_REFUSED', `Dataset ${dataset}: training without DP does not fit ${limit}.`, {
      hint: 'Give the steps that read it a finite epsilon.',
    });
  }
  const held = before === null || before === 0 ? '' : ` (epsilon ${short(before)} is spent or reserved already)`;
  const counted =
    rule === 'renyi-filter'
      ? ' Experiments on one account are added by Renyi divergence, which adaptive choice needs.'
      : '';
  return new EpsilonflowError(
    'BUDGET_REFUSED',
    `Dataset ${dataset}: this experiment would bring it to epsilon ${short(decisive)}${held}, ` +
      `${short(decisive - budget)} over ${limit}.${counted}`,
    { hint: `Lower epsilon, run fewer private steps or seeds, or see "epsilonflow ledger show ${dataset}".` },
  );
}
