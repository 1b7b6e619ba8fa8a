/**
 * @file What earlier runs took, for estimates. A run keeps what was expected of it (`estimate.json`), its event log what
 * it took; the two together tell what later runs may expect, and how far off the expectations were.
 *
 * Only times that the log shows anyway are read, and sizes of results that may leave or derive from no private data.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { CostDrivers } from '../compiler/costs.ts';
import type { ArtifactManifest } from '../schemas/artifact.ts';
import { statePaths } from '../stack/paths.ts';
import { ArtifactStore, type Store } from '../store/index.ts';
import { mayLeave } from './door.ts';
import type { PastInstance } from './estimates.ts';
import { readEvents, type RunEvent } from './events.ts';
import { type RunFolder, writeFileAtomically } from './runs.ts';

/** What was expected of the instances that were to run, by id. */
export type Expectations = Record<string, Expected>;

interface Expected {
  /** Null where too little is public to compare the instance with others. */
  drivers: CostDrivers | null;
  seconds: number | null;
  bytes: number | null;
}

const estimateFile = (directory: string): string => join(directory, 'estimate.json');

export const writeExpectations = (directory: string, expectations: Expectations): void =>
  writeFileAtomically(estimateFile(directory), `${JSON.stringify(expectations)}\n`);

/** For hosts that the run was not started on. What the log shows anyway: nothing that is private. */
export async function shareExpectations(
  { directory, record }: RunFolder,
  { logs }: Pick<Store, 'logs'>,
): Promise<void> {
  const expectations = readExpectations(directory);
  if (expectations !== null) await logs?.sendEstimate(record, JSON.stringify(expectations));
}

/** Takes those of a run that was started on another host. Null where there are none, or the store gives no answer. */
export async function takeExpectations(
  { directory, record }: RunFolder,
  { logs }: Pick<Store, 'logs'>,
): Promise<Expectations | null> {
  const own = readExpectations(directory);
  if (own !== null || logs === null) return own;
  const told = await logs.estimate(record).catch(() => null);
  if (told === null) return null;
  const expectations = JSON.parse(told) as Expectations;
  writeExpectations(directory, expectations);
  return expectations;
}

/** Null for a run that was started without, or elsewhere. */
export function readExpectations(directory: string): Expectations | null {
  try {
    return JSON.parse(readFileSync(estimateFile(directory), 'utf8')) as Expectations;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
}

/** So many instances are enough, and sizes are looked up of so many a group: `plan` is to be quick. */
const mostInstances = 2_000;
const mostSizes = 8;

/** Instances that ended, of the newest runs first. */
export async function pastInstances(runs: readonly RunFolder[]): Promise<PastInstance[]> {
  const past: PastInstance[] = [];
  const sizes = new StoredSizes();
  for (const { directory } of runs) {
    if (past.length >= mostInstances) break;
    const expectations = readExpectations(directory);
    if (expectations === null) continue;
    const { events } = readEvents(directory, 0, ['node-started', 'node-completed']);
    for (const { node, seconds, key } of wholeExecutions(events)) {
      const expected = expectations[node];
      if (!expected?.drivers) continue;
      const { drivers, seconds: estimatedSeconds } = expected;
      past.push({ ...drivers, seconds, estimatedSeconds, bytes: await sizes.of(drivers.group, key) });
    }
  }
  return past;
}

/** The same of one run, by its events; sizes are left out. */
export function endedInstances(expectations: Expectations, events: readonly RunEvent[]): PastInstance[] {
  return wholeExecutions(events).flatMap(({ node, seconds }) => {
    const expected = expectations[node];
    if (!expected?.drivers) return [];
    return [{ ...expected.drivers, seconds, estimatedSeconds: expected.seconds, bytes: null }];
  });
}

type Completed = Extract<RunEvent, { type: 'node-completed' }>;

/** Instances that ran from start to end in one attempt, newest first; what was found in the store never started. */
function wholeExecutions(events: readonly RunEvent[]): Completed[] {
  const started = new Set<string>();
  const completed = new Map<string, Completed>();
  for (const event of events) {
    if (event.type === 'node-started') started.add(event.node);
    if (event.type !== 'node-completed' || event.reused || event.attempt > 1) continue;
    if (started.has(event.node) && !completed.has(event.node)) completed.set(event.node, event);
  }
  return [...completed.values()].reverse();
}

/** Sizes of results in the state folder; a shared store is not asked. */
class StoredSizes {
  private readonly store = new ArtifactStore({ shared: statePaths.sharedStore(), private: statePaths.privateStore() });
  private readonly told = new Map<string, number>();

  /** None of what private data went into without a mechanism: it could tell of them. */
  async of(group: string, key: string): Promise<number | null> {
    const told = this.told.get(group) ?? 0;
    if (told >= mostSizes) return null;
    this.told.set(group, told + 1);
    const manifest = await this.store.manifestOf(key);
    return manifest !== null && mayLeave(manifest) ? sizeOf(manifest) : null;
  }
}

const sizeOf = ({ files }: ArtifactManifest): number => Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
