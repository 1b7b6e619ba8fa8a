/** @file Step kind `compare`: sets arms against each other, gathered over axes such as the seed. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type Interval, mean, standardDeviation, tInterval, wilsonInterval } from '../measures/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { CompareParams } from '../schemas/step-params.ts';
import type { OpenedArtifact, StepOutput, StepRunner } from './job.ts';

const manifestName: Record<CompareParams['metric'], string> = { accuracy: 'accuracy', 'macro-f1': 'macroF1' };

/** Figures of one arm. */
interface Arm {
  mean: number;
  /** Over the gathered results; 0 for a single one. */
  sd: number;
  n: number;
  /**
   * 95 % interval: Student's t over several results, whose spread holds the noise of counts too; for one accuracy
   * Wilson's from the number of test records, or what the step made of noisy counts. Null for one macro-F1, which is no
   * proportion.
   */
  low: number | null;
  high: number | null;
  values: number[];
}

function metricOf(artifact: OpenedArtifact, name: string): number {
  const value = artifact.manifest.metrics[name];
  if (value !== undefined) return value;
  throw new EpsilonflowError('STEP_FAILED', `The result of ${artifact.nodeId} has no ${name}.`);
}

/** A step that added noise to its counts gives the interval itself: it knows the noise. */
function accuracyInterval(artifact: OpenedArtifact): Interval {
  const { accuracyLow: low, accuracyHigh: high } = artifact.manifest.metrics;
  if (low !== undefined && high !== undefined) return { low, high };
  return wilsonInterval(metricOf(artifact, 'accuracy'), metricOf(artifact, 'testRecords'));
}

function armOf(artifacts: readonly OpenedArtifact[], metric: CompareParams['metric']): Arm {
  const values = artifacts.map((artifact) => metricOf(artifact, manifestName[metric]));
  const interval = ((): Interval | null => {
    if (values.length > 1) return tInterval(values);
    return metric === 'accuracy' ? accuracyInterval(artifacts[0]!) : null;
  })();
  return {
    mean: mean(values),
    sd: standardDeviation(values),
    n: values.length,
    low: interval?.low ?? null,
    high: interval?.high ?? null,
    values,
  };
}

export const run: StepRunner<'compare'> = async (
  { node, artifacts, outputDirectory },
  context,
): Promise<StepOutput> => {
  const { metric, over } = node.params;
  context.progress({ phase: 'evaluate', done: 0, total: 1, unit: 'tables' });
  const roles = Object.keys(artifacts).filter((role) => role.startsWith('arms.') && artifacts[role]!.length > 0);
  if (roles.length === 0) throw new EpsilonflowError('STEP_FAILED', `${node.id} has no results to compare.`);
  const arms = Object.fromEntries(roles.map((role) => [role.slice('arms.'.length), armOf(artifacts[role]!, metric)]));
  const ceilings = artifacts['ceiling'] ?? [];
  const ceiling = ceilings.length > 0 ? armOf(ceilings, metric) : null;
  const majority = mean(roles.flatMap((role) => artifacts[role]!).map((artifact) => metricOf(artifact, 'majority')));
  const gaps =
    ceiling && Object.fromEntries(Object.entries(arms).map(([arm, each]) => [arm, ceiling.mean - each.mean]));
  const comparison = { metric, over, arms, ...(ceiling && { ceiling, gaps }), majority };
  await writeFile(join(outputDirectory, 'comparison.json'), `${JSON.stringify(comparison, null, 2)}\n`);
  return {
    metrics: {
      ...Object.fromEntries(Object.entries(arms).map(([arm, each]) => [arm, each.mean])),
      ...(ceiling && { ceiling: ceiling.mean }),
      majority,
    },
  };
};
