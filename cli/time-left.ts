/** @file How long a run has left: by what earlier instances took, those of the run itself first. */

import type { LiveProgress } from '../activities/live-progress.ts';
import { estimatorFrom, type PartialSum, timeLeft } from '../tracking/estimates.ts';
import type { NodeSummary, RunEvent } from '../tracking/events.ts';
import { endedInstances, pastInstances, readExpectations } from '../tracking/past-costs.ts';
import { listRuns, type RunFolder } from '../tracking/runs.ts';
import { timeText } from './estimate.ts';

interface RunState {
  events: readonly RunEvent[];
  nodes: ReadonlyMap<string, NodeSummary>;
  progress: readonly LiveProgress[];
}

/** Null when nothing is left, and for a run that was started without estimates. */
export type Clock = (state: RunState) => PartialSum | null;

export async function openClock({ directory }: RunFolder): Promise<Clock> {
  const expectations = readExpectations(directory);
  if (expectations === null) return () => null;
  const planned = new Map(Object.entries(expectations).map(([id, { drivers }]) => [id, drivers]));
  const past = await pastInstances(listRuns().filter((run) => run.directory !== directory));
  return ({ events, nodes, progress }) => {
    const estimate = estimatorFrom([...endedInstances(expectations, events), ...past]);
    const left = timeLeft({ planned, nodes, progress, now: Date.now() }, estimate);
    return left.sum === 0 && left.unknown === 0 ? null : left;
  };
}

/** `about 4 min left` */
export const leftText = (left: PartialSum): string =>
  left.sum === null ? 'time left unknown' : `${timeText(left)} left`;
