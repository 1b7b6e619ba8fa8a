/** @file How long a run has left: by what earlier instances took, those of the run itself first. */

import type { LiveProgress } from '../activities/live-progress.ts';
import type { Store } from '../store/index.ts';
import { estimatorFrom, type PartialSum, timeLeft } from '../tracking/estimates.ts';
import type { RunEvent } from '../tracking/events.ts';
import type { NodeSummary } from '../tracking/run-summary.ts';
import { endedInstances, pastInstances, takeExpectations } from '../tracking/past-costs.ts';
import { listRuns, type RunFolder } from '../tracking/runs.ts';
import { timeText } from './estimate.ts';

interface RunState {
  events: readonly RunEvent[];
  nodes: ReadonlyMap<string, NodeSummary>;
  progress: readonly LiveProgress[];
}

/** Null when nothing is left. */
export type Clock = (state: RunState) => PartialSum | null;

/** Null for a run without estimates here: an old one, or one of another host that the store has none of. */
export async function openClock(run: RunFolder, store: Pick<Store, 'logs'>): Promise<Clock | null> {
  const expectations = await takeExpectations(run, store);
  if (expectations === null) return null;
  const entries = Object.entries(expectations);
  const planned = new Map(entries.map(([id, { drivers }]) => [id, drivers]));
  const expected = new Map(entries.map(([id, { seconds }]) => [id, seconds]));
  const past = await pastInstances(listRuns().filter(({ directory }) => directory !== run.directory));
  return ({ events, nodes, progress }) => {
    const estimate = estimatorFrom([...endedInstances(expectations, events), ...past]);
    const left = timeLeft({ planned, expected, nodes, progress, now: Date.now() }, estimate);
    return left.sum === 0 && left.unknown === 0 ? null : left;
  };
}

/** `about 4 min left` */
export const leftText = (left: PartialSum): string =>
  left.sum === null ? 'time left unknown' : `${timeText(left)} left`;
