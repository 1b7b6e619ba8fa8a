/** @file Holds the ledger against what services remember of it. */

import type { Ledger } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import { openProjectLedger, requireContinuity } from '../stack/project-ledger.ts';
import { recordedHeads, type RecordedHeads } from '../stack/recorded-heads.ts';
import { answeringServices, type Services } from '../stack/services.ts';
import { markerOf } from './registrations.ts';

/** What Temporal and the tracker remember of a ledger, as far as they answer now. */
export const recordsOf = async (ledger: Ledger): Promise<RecordedHeads> =>
  recordedHeads(await ledger.identity(), await answeringServices());

/**
 * Before a run is started: the ledger that its plan spends on must hold what Temporal's histories and the tracker
 * remember of it.
 *
 * @param say prints a line for people: who could not be asked.
 * @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK
 */
export async function compareWithRecords(
  plan: Plan,
  services: Pick<Services, 'temporal' | 'mlflow'>,
  say: (line: string) => void,
): Promise<void> {
  if (Object.keys(plan.privacy).length === 0) return;
  const marker = markerOf(plan);
  const ledger = await openProjectLedger(marker);
  try {
    const { heads, unasked } = await recordedHeads(await ledger.identity(), services);
    unasked.forEach(say);
    await requireContinuity(ledger, marker, heads);
  } finally {
    await ledger.close();
  }
}
