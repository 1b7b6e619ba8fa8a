/** @file What `plan`, `run` and `status` say of time and disk. */

import { type Compiled, type CostDrivers, costDrivers, type ModelSize } from '../compiler/index.ts';
import { modelSize } from '../learning/formats/model-size.ts';
import type { Plan } from '../schemas/plan.ts';
import {
  type EstimateError,
  errorOf,
  estimatorFrom,
  type InstanceEstimate,
  type PartialSum,
  type PastInstance,
  sumKnown,
} from '../tracking/estimates.ts';
import { type Expectations, pastInstances } from '../tracking/past-costs.ts';
import { listRuns } from '../tracking/runs.ts';
import { fileSize, roughDuration } from '../tracking/wording.ts';

/** An instance that is to run; drivers are null where too little is public to compare it with others. */
type InstanceToRun = InstanceEstimate & { drivers: CostDrivers | null };

export interface PlanEstimate {
  /** By id: instances that have no result yet, of equal ones the first. */
  instances: ReadonlyMap<string, InstanceToRun>;
  seconds: PartialSum;
  bytes: PartialSum;
  error: EstimateError | null;
  past: readonly PastInstance[];
}

/** From runs that this state folder knows; asks no service. */
export async function estimatePlan({ plan, records }: Pick<Compiled, 'plan' | 'records'>): Promise<PlanEstimate> {
  const drivers = costDrivers(plan, { records, models: await modelSizes(plan) });
  const past = await pastInstances(listRuns());
  const estimate = estimatorFrom(past);
  const instances = new Map(
    toRun(plan).map((id): [string, InstanceToRun] => {
      const own = drivers.get(id) ?? null;
      const figures = own === null ? { seconds: null, bytes: null, from: 0 } : estimate(own);
      return [id, { ...figures, drivers: own }];
    }),
  );
  const all = [...instances.values()];
  return {
    instances,
    seconds: sumKnown(all.map(({ seconds }) => seconds)),
    bytes: sumKnown(all.map(({ bytes }) => bytes)),
    error: errorOf(past, new Set(all.flatMap((each) => each.drivers?.group ?? []))),
    past,
  };
}

function toRun({ nodes }: Plan): string[] {
  const keys = new Set<string>();
  return nodes.flatMap(({ id, key, cached }) => {
    if (cached === true || keys.has(key)) return [];
    keys.add(key);
    return [id];
  });
}

async function modelSizes({ models }: Plan): Promise<Map<string, ModelSize | null>> {
  const sizes = await Promise.all(
    Object.values(models).map(async ({ name, path }): Promise<[string, ModelSize | null]> => [
      name,
      await modelSize(path),
    ]),
  );
  return new Map(sizes);
}

/** What a run keeps, for later ones to learn from. */
export const expectationsOf = ({ instances }: PlanEstimate): Expectations =>
  Object.fromEntries([...instances].map(([id, { drivers, seconds, bytes }]) => [id, { drivers, seconds, bytes }]));

/** How many past instances figures rest on, by group. */
function sourcesOf({ instances }: PlanEstimate): Map<string, number> {
  const all = [...instances.values()].flatMap(({ drivers, from }): [string, number][] =>
    drivers === null ? [] : [[drivers.group, from]],
  );
  return new Map(all);
}

/** The form of `plan --json`. */
export function estimateJson(estimate: PlanEstimate): object {
  const { instances, seconds, bytes, error } = estimate;
  return {
    seconds: seconds.sum,
    bytes: bytes.sum,
    unknown: { seconds: seconds.unknown, bytes: bytes.unknown },
    pastInstances: Object.fromEntries(sourcesOf(estimate)),
    error,
    instances: Object.fromEntries(
      [...instances].map(([id, { drivers, ...figures }]) => [
        id,
        { seconds: figures.seconds, bytes: figures.bytes, group: drivers?.group ?? null },
      ]),
    ),
  };
}

/** `about 12 min`, `at least 12 min (2 instances unknown)`, `unknown`. */
function sumText({ sum, unknown }: PartialSum, show: (value: number) => string): string {
  if (sum === null) return 'unknown';
  if (unknown === 0) return `about ${show(sum)}`;
  return `at least ${show(sum)} (${unknown} ${unknown === 1 ? 'instance' : 'instances'} unknown)`;
}

export const timeText = (seconds: PartialSum): string => sumText(seconds, roughDuration);

/** One line at the start of a run; null when nothing is to run. */
export function startLine({ instances, seconds, bytes, past }: PlanEstimate): string | null {
  if (instances.size === 0) return null;
  if (past.length === 0) return 'time and disk: unknown, for no earlier run tells';
  return `time: ${timeText(seconds)} of computing; disk: ${sumText(bytes, fileSize)}`;
}

const bare = (value: number | null, show: (value: number) => string): string =>
  value === null ? 'unknown' : show(value);

/** Cells of an instance's row in the table of `plan`; empty where nothing is to run. */
export function estimateCells({ instances }: PlanEstimate, id: string): [time: string, disk: string] {
  const instance = instances.get(id);
  return instance ? [bare(instance.seconds, roughDuration), bare(instance.bytes, fileSize)] : ['', ''];
}

/** The lines of `plan` on the whole. */
export function estimateLines(estimate: PlanEstimate): string[] {
  const { instances, seconds, bytes, error } = estimate;
  const count = `${instances.size} ${instances.size === 1 ? 'instance' : 'instances'} to run`;
  const sources = [...sourcesOf(estimate)].map(([group, from]) => `${group}: ${from === 0 ? 'none' : from}`);
  const held =
    error === null
      ? 'unknown: no estimate has been put to the test yet'
      : `actual / estimated time ${error.median.toFixed(2)} in the median, ${error.worst.toFixed(2)} at worst, ` +
        `of ${error.instances} earlier ${error.instances === 1 ? 'instance' : 'instances'}`;
  return [
    `├─ time        ${timeText(seconds)} of computing, ${count}`,
    `├─ disk        ${sumText(bytes, fileSize)}`,
    `├─ from        past instances: ${sources.join('; ') || 'none'}`,
    `└─ error       ${held}`,
  ];
}
