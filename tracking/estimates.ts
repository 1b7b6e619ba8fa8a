/**
 * @file What instances will take, from what earlier ones took. Instances of one group (`compiler/costs.ts`) are
 * compared: a part that all of them have, such as starting, and a part that grows with the work. Where no instance of
 * the group has ended yet nothing is said. Pure.
 */

import type { CostDrivers } from '../compiler/costs.ts';
import type { NodeSummary } from './run-summary.ts';

/** An instance that ended. */
export interface PastInstance extends CostDrivers {
  seconds: number;
  /** Of its result in the store; null where it is gone, or where its size may not be told. */
  bytes: number | null;
  /** What was estimated for it at the start of its run; null when nothing was known. */
  estimatedSeconds: number | null;
}

/** Null: unknown. */
export interface InstanceEstimate {
  seconds: number | null;
  bytes: number | null;
  /** Instances of earlier runs that it rests on. */
  from: number;
}

/** How earlier estimates of time held: actual / estimated. */
export interface EstimateError {
  instances: number;
  median: number;
  /** Farthest from 1, in either direction. */
  worst: number;
}

export type Estimator = (drivers: CostDrivers) => InstanceEstimate;

/** Instances of a group that count, newest first: machine and program change. */
const mostOfGroup = 32;

/** Shares of the typical instance's cost that may be the part that does not grow. */
const fixedShares = Array.from({ length: 20 }, (_, index) => index / 20);

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
};

interface Point {
  driver: number;
  value: number;
}

/**
 * Cost by driver: `scale * (share + (1 - share) * driver / typical)`. The share is the one for which the logarithms of
 * the points lie nearest to the curve, the scale the median over the points: single instances that were disturbed don't
 * move it. Points of one driver alone tell no fixed part: cost is then taken to grow in proportion.
 */
function fitCurve(points: readonly Point[]): (driver: number) => number {
  const typical = median(points.map(({ driver }) => driver));
  const shape = (share: number, driver: number): number => share + ((1 - share) * driver) / typical;
  const candidates = fixedShares.map((share) => {
    const logs = points.map(({ driver, value }) => Math.log(value / shape(share, driver)));
    const scale = median(logs);
    return { share, scale, distance: logs.reduce((sum, log) => sum + Math.abs(log - scale), 0) };
  });
  // The first of equals: without need no fixed part is assumed. The margin keeps rounding from deciding.
  const least = Math.min(...candidates.map(({ distance }) => distance));
  const { share, scale } = candidates.find(({ distance }) => distance <= least * (1 + 1e-9) + 1e-12)!;
  return (driver) => Math.exp(scale) * shape(share, driver);
}

const curveOf = (points: readonly Point[]): ((driver: number) => number) | null => {
  const usable = points.filter(({ driver, value }) => driver > 0 && value > 0);
  return usable.length === 0 ? null : fitCurve(usable);
};

/** @param past newest first */
export function estimatorFrom(past: readonly PastInstance[]): Estimator {
  const groups = new Map<string, PastInstance[]>();
  for (const instance of past) {
    const ofGroup = groups.get(instance.group) ?? [];
    groups.set(instance.group, ofGroup);
    if (ofGroup.length < mostOfGroup) ofGroup.push(instance);
  }
  const curves = new Map(
    [...groups].map(([group, instances]) => [
      group,
      {
        from: instances.length,
        seconds: curveOf(instances.map(({ work, seconds }) => ({ driver: work, value: seconds }))),
        bytes: curveOf(
          instances.flatMap(({ volume, bytes }) => (bytes === null ? [] : [{ driver: volume, value: bytes }])),
        ),
      },
    ]),
  );
  return ({ group, work, volume }) => {
    const known = curves.get(group);
    return { seconds: known?.seconds?.(work) ?? null, bytes: known?.bytes?.(volume) ?? null, from: known?.from ?? 0 };
  };
}

/** Null where nothing was ever estimated. @param groups that are asked about */
export function errorOf(past: readonly PastInstance[], groups: ReadonlySet<string>): EstimateError | null {
  const ratios = past.flatMap(({ group, seconds, estimatedSeconds }) =>
    groups.has(group) && estimatedSeconds !== null && estimatedSeconds > 0 && seconds > 0
      ? [seconds / estimatedSeconds]
      : [],
  );
  if (ratios.length === 0) return null;
  const worst = ratios.reduce((a, b) => (Math.abs(Math.log(b)) > Math.abs(Math.log(a)) ? b : a));
  return { instances: ratios.length, median: median(ratios), worst };
}

/** A sum of which some parts may be unknown. */
export interface PartialSum {
  /** Of the known parts; null when all are unknown. */
  sum: number | null;
  unknown: number;
}

export function sumKnown(values: readonly (number | null)[]): PartialSum {
  const known = values.filter((value) => value !== null);
  const unknown = values.length - known.length;
  return { sum: known.length === 0 && unknown > 0 ? null : known.reduce((sum, value) => sum + value, 0), unknown };
}

export interface UnderWay {
  /** Instances that were to run when the run started; those without drivers are null. */
  planned: ReadonlyMap<string, CostDrivers | null>;
  /** What was expected of them then, seconds: of use where nothing alike has run here. */
  expected?: ReadonlyMap<string, number | null>;
  /** By id; absent ones wait. */
  nodes: ReadonlyMap<string, Pick<NodeSummary, 'status' | 'startedAt' | 'attempt'>>;
  /** How far the running ones are. */
  progress: readonly { node: string; done: number; total: number; unit: string }[];
  /** Milliseconds since 1970. */
  now: number;
}

/** Seconds that a run has left when as many instances run at a time as now. */
export function timeLeft({ planned, expected, nodes, progress, now }: UnderWay, estimate: Estimator): PartialSum {
  const left: (number | null)[] = [];
  let running = 0;
  for (const [id, drivers] of planned) {
    const node = nodes.get(id);
    const whole = (drivers && estimate(drivers).seconds) ?? expected?.get(id) ?? null;
    if (node === undefined || node.status === 'waiting') left.push(whole);
    if (node?.status !== 'running') continue;
    running += 1;
    left.push(
      leftOf(
        node,
        whole,
        progress.find((step) => step.node === id),
        now,
      ),
    );
  }
  const { sum, unknown } = sumKnown(left);
  return { sum: sum === null ? null : sum / Math.max(1, running), unknown };
}

/** By the steps that are done where the instance has shown its pace, by the estimate otherwise. */
function leftOf(
  { startedAt, attempt }: Pick<NodeSummary, 'startedAt' | 'attempt'>,
  whole: number | null,
  step: UnderWay['progress'][number] | undefined,
  now: number,
): number | null {
  const isCounted = step !== undefined && step.unit === 'steps' && step.done >= 1 && step.total >= step.done;
  const share = isCounted ? 1 - step.done / step.total : 1;
  // A later attempt went on from a checkpoint, at a moment that is not known here.
  if (attempt > 1) return whole === null ? null : whole * share;
  const elapsed = startedAt === null ? 0 : (now - startedAt) / 1000;
  if (isCounted) return (elapsed * share) / (1 - share);
  return whole === null ? null : Math.max(0, whole - elapsed);
}
