/** @file What activities work with: opened once a worker, passed to every activity. */

import { join } from 'node:path';
import type { KnownHead, Ledger } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import type { Store } from '../store/index.ts';
import { statePaths } from '../stack/paths.ts';
import { passEvents } from '../tracking/door.ts';
import { appendEvents, type RunEvent } from '../tracking/events.ts';
import type { RunIdentity } from './contract.ts';

export interface WorkerParts {
  store: Store;
  /**
   * Opened at the first use, so that a worker without private work needs no ledger.
   *
   * @param known a row that it must hold, from an earlier activity of the run. @throws EpsilonflowError LEDGER_MISMATCH,
   *   LEDGER_ROLLED_BACK
   */
  ledger(known?: KnownHead | null): Promise<Ledger>;
  /** Keys the digests of private datasets; lies with the ledger. */
  datasetSecret(): Promise<Buffer>;
  /** Base address of the tracker; null when there is none. */
  trackerUri(): Promise<string | null>;
}

export const runDirectory = (run: RunIdentity): string => statePaths.run(run.name, run.number);

/** Appends to the log of a run what may stand there. */
export const logEvents = (run: RunIdentity, plan: Plan, events: readonly RunEvent[]): void =>
  appendEvents(runDirectory(run), passEvents(plan, events));

/** Where the tracker shows a run; written after publishing. */
export const linksFile = (directory: string): string => join(directory, 'links.json');
