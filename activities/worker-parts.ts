/** @file What activities work with: opened once a worker, passed to every activity. */

import { join } from 'node:path';
import type { KnownHead, Ledger } from '../privacy/ledger/index.ts';
import type { Plan } from '../schemas/plan.ts';
import type { Store } from '../store/index.ts';
import { sharedStoreUrl, statePaths } from '../stack/paths.ts';
import { passEvents } from '../tracking/door.ts';
import { appendEvents, type RunEvent } from '../tracking/events.ts';
import { keepForOthers } from '../tracking/shared-log.ts';
import type { RunIdentity } from './contract.ts';
import type { JobSlots } from './job-slots.ts';
import type { PlannedData } from './step-queue.ts';

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
  /** Data and models of this host, of plans that may have been made elsewhere. */
  dataHere?: readonly PlannedData[];
  /** Places for jobs of each device; without them as many run as are taken. */
  slots?: Partial<Record<string, JobSlots>>;
  /** Base address of the tracker; null when there is none. */
  trackerUri(): Promise<string | null>;
}

export const runDirectory = (run: Pick<RunIdentity, 'name' | 'number'>): string => statePaths.run(run.name, run.number);

/** Appends to the log of a run what may stand there. */
export function logEvents(run: RunIdentity, plan: Plan, events: readonly RunEvent[]): void {
  const passed = passEvents(plan, events);
  appendEvents(runDirectory(run), passed);
  if (sharedStoreUrl() !== null) keepForOthers(runDirectory(run), passed);
}

/** Where the tracker shows a run; written after publishing. */
export const linksFile = (directory: string): string => join(directory, 'links.json');
