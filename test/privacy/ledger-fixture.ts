import {
  sealMechanism,
  type DatasetRegistration,
  type Envelope,
  type EnvelopeEntry,
} from '../../privacy/ledger/index.ts';
import { rowsOf } from '../../privacy/ledger/rows.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import { jsonDigest } from '../../schemas/canonical-json.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';

export const delta = 1e-5;

export const stateDigest = '5'.repeat(64);

export const mechanism: PoissonGaussianMechanism = {
  kind: 'poisson-gaussian',
  samplingProbability: 0.01,
  noiseMultiplier: 1,
  steps: 1000,
  clipNorm: 0.5,
  expectedBatchSize: 100,
  arithmetic: 'exact',
};

export const proof: MechanismProof = {
  sampler: 'poisson',
  samplingProbability: 0.01,
  noiseMultiplier: 1,
  clipNorm: 0.5,
  expectedBatchSize: 100,
  arithmetic: 'exact',
  steps: 1000,
};

const data = { digest: 'd'.repeat(64), delta };

export function entry(nodeId: string, change: Partial<EnvelopeEntry> = {}): EnvelopeEntry {
  const planned = change.mechanism ?? mechanism;
  return {
    dataset: 'reviews',
    nodeId,
    nodeKey: jsonDigest(nodeId),
    keyEpoch: 0,
    mechanism: planned,
    mechanismDigest: sealMechanism(data, planned),
    ...change,
  };
}

/** Entries are sealed to its data. */
export function envelope(
  workflowId: string,
  entries: EnvelopeEntry[],
  epsilon: number | null,
  change: Partial<Envelope['accounts'][number]> = {},
): Envelope {
  const account = { dataset: 'reviews', ...data, budget: epsilon === null ? null : { epsilon }, ...change };
  return {
    workflowId,
    experiment: 'test',
    planDigest: '0'.repeat(64),
    accounts: [account],
    entries: entries.map((planned) => ({ ...planned, mechanismDigest: sealMechanism(account, planned.mechanism) })),
  };
}

/** What the ledger must know before it lets anyone spend on `reviews`. */
export const registration = (change: Partial<DatasetRegistration> = {}): DatasetRegistration => ({
  dataset: 'reviews',
  digest: 'd'.repeat(64),
  benchmark: false,
  rows: rowsOf(['a review', 'another review', 'a third one', 'a fourth one'], Buffer.alloc(32, 7)),
  ...change,
});
