/** @file The tag of a tracker's run that says how far the privacy ledger was, so that an older copy can be told by it. */

import type { KnownHead, RememberedHead } from '../../privacy/ledger/index.ts';
import type { MlflowClient } from './client.ts';
import type { MlflowTag } from './values.ts';

const ledgerHeadTag = 'epsilonflow.ledger.head';

/** Runs that are looked at. */
const runsAsked = 100;

/** `LEDGER/SEQUENCE/HASH`. */
export const tagOfHead = ({ ledger, sequence, hash }: KnownHead): MlflowTag => ({
  key: ledgerHeadTag,
  value: `${ledger}/${sequence}/${hash}`,
});

/**
 * Rows of a ledger, by its identity, that the newest runs of all experiments name.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE, MlflowRefusal
 */
export async function headsInTracker(client: MlflowClient, ledger: string): Promise<RememberedHead[]> {
  const runs = await client.newestRuns({ key: ledgerHeadTag, begins: `${ledger}/` }, runsAsked);
  return runs.flatMap(({ name, tags }) => {
    const [, named, sequence, hash] = /^([^/]+)\/(\d{1,15})\/([0-9a-f]{64})$/.exec(tags[ledgerHeadTag] ?? '') ?? [];
    if (named !== ledger) return [];
    return [{ ledger, sequence: Number(sequence), hash: hash!, source: `the MLflow run ${name}` }];
  });
}
