/** @file The evidence of a run of this state folder, for `export` and `verify`. */

import type { Bundle } from '../tracking/evidence/bundle.ts';
import type { Store } from '../store/index.ts';

/** @throws EpsilonflowError RUN_UNKNOWN, PLAN_MISSING, INPUT_MISSING */
export async function gatherRun(reference: string): Promise<{ bundle: Bundle; store: Store }> {
  const { resolveRun } = await import('../tracking/runs.ts');
  const { gatherEvidence } = await import('../tracking/evidence/gather.ts');
  const { openStore } = await import('../store/index.ts');
  const { openProjectLedger } = await import('../stack/project-ledger.ts');
  const run = resolveRun(reference);
  const store = openStore();
  const plan = await store.loadPlan(run.record.planDigest);
  const ledger = await openProjectLedger(null);
  try {
    return { bundle: await gatherEvidence({ run, plan, store, ledger }), store };
  } finally {
    await ledger.close();
  }
}
