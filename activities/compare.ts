/** @file Step kind `compare`: gathers the metrics of arms over axes, each with its spread and interval. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { mean, standardDeviation, tInterval, wilsonInterval } from '../measures/index.ts';
import type { OpenedArtifact } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { CompareParams } from '../schemas/step-params.ts';
import type { JobContext, JobInput, StepOutput, StepRunner } from './job.ts';

interface ArmSummary {
  mean: number;
  /** Sample standard deviation; null for one run. */
  sd: number | null;
  n: number;
  /** 95 % interval: Student's t over runs; for one run Wilson's for an accuracy, null where nothing is known. */
  low: number | null;
  high: number | null;
  values: number[];
}

const metricNames: Record<CompareParams['metric'], string> = { accuracy: 'accuracy', 'macro-f1': 'macroF1' };

function metricOf(artifact: OpenedArtifact, name: string): number {
  const value = artifact.manifest.metrics[name];
  if (value !== undefined && Number.isFinite(value)) return value;
  throw new EpsilonflowError('STEP_FAILED', `The result of ${artifact.nodeId} holds no ${name} to compare.`, {
    hint: 'An arm of `compare` must be a step that reports it, such as `train-classifier`.',
  });
}

function summarise(artifacts: readonly OpenedArtifact[], metric: CompareParams['metric']): ArmSummary {
  const name = metricNames[metric];
  const values = artifacts.map((artifact) => metricOf(artifact, name));
  const summary = { mean: mean(values), n: values.length, values };
  if (values.length > 1) return { ...summary, sd: standardDeviation(values), ...tInterval(values) };
  const testRecords = artifacts[0]!.manifest.metrics['testRecords'];
  if (metric !== 'accuracy' || testRecords === undefined) return { ...summary, sd: null, low: null, high: null };
  return { ...summary, sd: null, ...wilsonInterval(summary.mean, testRecords) };
}

/**
 * @returns metrics `ARM` (mean), `ARM-gap` (ceiling minus mean), `ceiling`, `majority` of the compared runs
 * @throws EpsilonflowError STEP_FAILED when an arm's result lacks the metric
 */
export const run: StepRunner<'compare'> = async (
  input: JobInput<'compare'>,
  context: JobContext,
): Promise<StepOutput> => {
  const { metric, over } = input.node.params;
  const roles = Object.keys(input.node.inputs);
  context.progress({ phase: 'evaluate', done: 0, total: roles.length, unit: 'arms' });
  const arms = Object.fromEntries(
    roles
      .filter((role) => role.startsWith('arms.'))
      .map((role) => [role.slice('arms.'.length), summarise(input.artifacts[role] ?? [], metric)]),
  );
  const gathered = input.artifacts['ceiling'];
  const ceiling = gathered && gathered.length > 0 ? summarise(gathered, metric) : null;
  const majorities = roles.flatMap((role) =>
    (input.artifacts[role] ?? []).flatMap(({ manifest }) => manifest.metrics['majority'] ?? []),
  );
  // Arms are tested on one test set, or the rarest majority would flatter: the highest is the bar to clear.
  const majority = majorities.length > 0 ? Math.max(...majorities) : null;
  const comparison = { metric, over, arms, ceiling, majority };
  await writeFile(join(input.outputDirectory, 'comparison.json'), `${JSON.stringify(comparison, null, 2)}\n`);
  const metrics: Record<string, number> = {};
  for (const [arm, summary] of Object.entries(arms)) {
    metrics[arm] = summary.mean;
    if (ceiling) metrics[`${arm}-gap`] = ceiling.mean - summary.mean;
  }
  if (ceiling) metrics['ceiling'] = ceiling.mean;
  if (majority !== null) metrics['majority'] = majority;
  context.progress({ phase: 'evaluate', done: roles.length, total: roles.length, unit: 'arms' });
  return { metrics };
};
