/** @file Opens a run of this state folder for commands that read its results and the ledger behind them. */

import { existsSync, readFileSync } from 'node:fs';

import type { KnownHead, Ledger } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import type { Store } from '../store/index.ts';
import type { RunFolder } from '../tracking/runs.ts';

export interface OpenedRun {
  run: RunFolder;
  plan: Plan;
  store: Store;
  ledger: Ledger;
}

/**
 * Does `work` with a run and closes the ledger afterwards.
 *
 * @param reference NAME/NUMBER, NAME or `latest`.
 * @throws EpsilonflowError RUN_UNKNOWN, PLAN_MISSING, LEDGER_MISMATCH, LEDGER_ROLLED_BACK, what `work` throws
 */
export async function withRun<T>(reference: string, work: (opened: OpenedRun) => Promise<T>): Promise<T> {
  const { ledgerHeadFile, resolveRun } = await import('../tracking/runs.ts');
  const { openStore } = await import('../store/index.ts');
  const { takeFromOthers } = await import('./other-hosts.ts');
  const { markerFile } = await import('../privacy/ledger/index.ts');
  const { openProjectLedger } = await import('../stack/project-ledger.ts');
  const run = resolveRun(reference);
  const headFile = ledgerHeadFile(run.directory);
  // A ledger that the run has used is not made anew by those who only read it.
  const known = existsSync(headFile) ? (JSON.parse(readFileSync(headFile, 'utf8')) as KnownHead) : null;
  const store = openStore();
  await takeFromOthers(store, [run]);
  const plan = await store.loadPlan(run.record.planDigest);
  const ledger = await openProjectLedger(markerFile(run.record.specFile), { remembered: true, known });
  try {
    return await work({ run, plan, store, ledger });
  } finally {
    await ledger.close();
  }
}
