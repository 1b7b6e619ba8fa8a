/** @file What a run found, read from its event log and the store: the one source of report, table and tracker. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OpenedArtifact } from '../schemas/artifact.ts';
import type { Measurement } from '../schemas/measurement.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import type { CompareParams } from '../schemas/step-params.ts';
import type { ArtifactReader } from '../store/index.ts';
import { doorOf } from './door.ts';
import { readEvents } from './events.ts';
import { summariseRun, type NodeSummary, type RunSummary } from './run-summary.ts';
import { lineageOf, type Lineage } from '../schemas/lineage.ts';

/** A mean is never without the number behind it and its interval. */
export interface Estimate {
  mean: number;
  /** Number of values: runs that differ in the axes gathered over. */
  n: number;
  low: number;
  high: number;
  /** What the 95 % interval covers: the spread over `n` runs (Student's t), or of one run the size of its test set. */
  covers: 'runs' | 'test set';
  values: number[];
}

export interface ArmResult extends Estimate {
  arm: string;
  /** False when no mechanism bounds what its training data may show. */
  private: boolean;
}

export interface ComparisonResult {
  node: PlanNode<'compare'>;
  metric: CompareParams['metric'];
  arms: ArmResult[];
  /** The best that can be had: training on the real data without DP. */
  ceiling: Estimate | null;
  /** Accuracy of always answering the most frequent class of the test set. */
  majority: number | null;
  testRecords: number | null;
  /** Some figure comes from counts with noise: `testRecords` is then a noisy sum. */
  noisyCounts: boolean;
}

export interface MeasuredNode {
  node: PlanNode;
  measurement: Measurement;
}

export interface RunResults {
  run: RunSummary;
  plan: Plan;
  lineage: Lineage;
  comparisons: ComparisonResult[];
  /** Of measure steps whose figures may leave. */
  measurements: MeasuredNode[];
  /** By node id; what the log says nothing about is `waiting`. */
  nodes: Map<string, NodeSummary>;
  /** Finished artifacts by node id. */
  artifacts: Map<string, OpenedArtifact>;
}

interface ComparisonFile {
  metric: CompareParams['metric'];
  arms: Record<string, ArmFile>;
  ceiling?: ArmFile | null;
  majority?: number | null;
}

interface ArmFile {
  mean: number;
  n: number;
  low?: number | null;
  high?: number | null;
  values: number[];
}

/** What the log says of a run, and by node id those of its finished artifacts that the store still has whole. */
export async function collectArtifacts(
  runDirectory: string,
  plan: Plan,
  store: ArtifactReader,
): Promise<Pick<RunResults, 'run' | 'artifacts'>> {
  const run = summariseRun(readEvents(runDirectory).events);
  const artifacts = new Map<string, OpenedArtifact>();
  for (const node of plan.nodes) {
    if (run.nodes.get(node.id)?.status !== 'completed') continue;
    const artifact = await store.lookup(node.key);
    if (artifact) artifacts.set(node.id, artifact);
  }
  return { run, artifacts };
}

/** Reads what is there so far; a run that still goes on gives the comparisons that have finished. */
export async function collectResults(runDirectory: string, plan: Plan, store: ArtifactReader): Promise<RunResults> {
  const { run, artifacts } = await collectArtifacts(runDirectory, plan, store);
  const lineage = lineageOf(plan);
  const comparisons = plan.nodes.flatMap((node) => {
    const artifact = artifacts.get(node.id);
    const result = isCompare(node) && artifact ? readComparison(plan, node, artifact, lineage, artifacts) : null;
    return result ? [result] : [];
  });
  const measurements = plan.nodes.flatMap((node) => {
    const artifact = artifacts.get(node.id);
    const measurement = node.kind === 'measure' && artifact ? readMeasurement(plan, node, artifact) : null;
    return measurement ? [{ node, measurement }] : [];
  });
  return { run, plan, lineage, comparisons, measurements, nodes: run.nodes, artifacts };
}

function readMeasurement(plan: Plan, node: PlanNode, { directory }: OpenedArtifact): Measurement | null {
  const path = join(directory, 'measures.json');
  if (!existsSync(path)) return null;
  return doorOf(plan, node).content(JSON.parse(readFileSync(path, 'utf8')) as Measurement);
}

const isCompare = (node: PlanNode): node is PlanNode<'compare'> => node.kind === 'compare';

function readComparison(
  plan: Plan,
  node: PlanNode<'compare'>,
  artifact: OpenedArtifact,
  lineage: Lineage,
  artifacts: ReadonlyMap<string, OpenedArtifact>,
): ComparisonResult | null {
  const path = join(artifact.directory, 'comparison.json');
  if (!existsSync(path)) return null;
  const file = doorOf(plan, node).content(JSON.parse(readFileSync(path, 'utf8')) as ComparisonFile);
  if (!file) return null;
  const testRecords = (ids: readonly string[]): number | null => {
    const sizes = ids
      .map((id) => artifacts.get(id)?.manifest.metrics['testRecords'])
      .filter((size) => size !== undefined);
    return sizes.length > 0 ? Math.min(...sizes) : null;
  };
  const idsOf = (role: string): string[] => {
    const input = node.inputs[role];
    return input && 'nodes' in input ? input.nodes : [];
  };
  return {
    node,
    metric: file.metric,
    arms: Object.entries(file.arms).map(([arm, values]) => ({
      arm,
      private: idsOf(`arms.${arm}`).every((id) => isBounded(lineage, id)),
      ...estimate(values),
    })),
    ceiling: file.ceiling ? estimate(file.ceiling) : null,
    majority: file.majority ?? null,
    testRecords: testRecords(Object.keys(node.inputs).flatMap(idsOf)),
    noisyCounts: Object.keys(node.inputs)
      .flatMap(idsOf)
      .some((id) => lineage.node(id)?.release !== undefined),
  };
}

/** Whether everything behind a node that saw sensitive data did so through a bounded mechanism. */
function isBounded(lineage: Lineage, id: string): boolean {
  return lineage.privacyBehind(id).every(({ privacy }) => privacy.epsilon !== null);
}

/** The comparison knows what its interval must cover, noise of counts too; where it gives none there is none. */
function estimate({ mean, values, low, high }: ArmFile): Estimate {
  const n = values.length;
  return { mean, n, values, covers: n > 1 ? 'runs' : 'test set', low: low ?? NaN, high: high ?? NaN };
}
