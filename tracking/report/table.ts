/** @file The table of results: one row a dataset and epsilon, arms beside each other, never a mean without its interval. */

import { showEpsilon } from '../wording.ts';
import type { ArmResult, ComparisonResult, Estimate } from '../results.ts';

export interface ComparisonGroup {
  /** Axes other than epsilon, as `dataset=speeches`; empty when there are none. */
  name: string;
  axes: [string, string][];
  metric: ComparisonResult['metric'];
  step: string;
  /** By rising epsilon, infinity last. */
  rows: ComparisonResult[];
  arms: string[];
}

/** Comparisons that differ in epsilon only stand together: one table part and one plot each. */
export function groupComparisons(comparisons: readonly ComparisonResult[]): ComparisonGroup[] {
  const groups = new Map<string, ComparisonGroup>();
  for (const comparison of comparisons) {
    const { node, metric } = comparison;
    const axes = Object.entries(node.axes)
      .filter(([axis]) => axis !== 'epsilon')
      .map(([axis, value]): [string, string] => [axis, String(value)]);
    const key = JSON.stringify([node.step, metric, axes]);
    const group = groups.get(key) ?? { name: '', axes, metric, step: node.step, rows: [], arms: [] };
    group.name = axes.map(([axis, value]) => (axes.length === 1 ? value : `${axis} ${value}`)).join(', ') || node.step;
    group.rows.push(comparison);
    for (const { arm } of comparison.arms) if (!group.arms.includes(arm)) group.arms.push(arm);
    groups.set(key, group);
  }
  for (const group of groups.values()) group.rows.sort((a, b) => epsilonOrder(a) - epsilonOrder(b));
  return [...groups.values()];
}

/** Epsilon of a comparison's axis, as written; null when there is no such axis. */
export function epsilonOf({ node }: ComparisonResult): string | null {
  const epsilon = node.axes['epsilon'];
  if (epsilon === undefined) return null;
  return typeof epsilon === 'number' || epsilon === 'inf' ? showEpsilon(epsilon) : epsilon;
}

export const isFiniteEpsilon = (comparison: ComparisonResult): boolean => Number.isFinite(epsilonOrder(comparison));

const epsilonOrder = ({ node }: ComparisonResult): number => {
  const epsilon = node.axes['epsilon'];
  return typeof epsilon === 'number' ? epsilon : epsilon === undefined ? -1 : Infinity;
};

/** `0.713 [0.700, 0.726] n=1`. */
export function showEstimate({ mean, low, high, n }: Estimate): string {
  const interval =
    Number.isFinite(low) && Number.isFinite(high) ? `[${digits(low)}, ${digits(high)}]` : '[no interval]';
  return `${digits(mean)} ${interval} n=${n}`;
}

export const digits = (value: number): string => value.toFixed(3);

export interface ResultTable {
  header: string[];
  rows: string[][];
  /** What the intervals cover. */
  note: string;
}

/** Rows for people, the same in terminal, report and tracker. */
export function tableOf(comparisons: readonly ComparisonResult[]): ResultTable {
  const groups = groupComparisons(comparisons);
  const arms = [...new Set(groups.flatMap((group) => group.arms))];
  const axes = [...new Set(groups.flatMap((group) => group.axes.map(([axis]) => axis)))];
  const steps = new Set(groups.map(({ step }) => step));
  const metrics = new Set(groups.map(({ metric }) => metric));
  const hasEpsilon = comparisons.some((comparison) => epsilonOf(comparison) !== null);
  const hasCeiling = comparisons.some(({ ceiling }) => ceiling !== null);
  const header = [
    ...(steps.size > 1 ? ['comparison'] : []),
    ...(metrics.size > 1 ? ['metric'] : []),
    ...axes,
    ...(hasEpsilon ? ['ε'] : []),
    ...arms,
    ...(hasCeiling ? ['ceiling'] : []),
    'majority class',
  ];
  const rows = groups.flatMap((group) =>
    group.rows.map((comparison) => {
      const armOf = (name: string): ArmResult | undefined => comparison.arms.find(({ arm }) => arm === name);
      return [
        ...(steps.size > 1 ? [group.step] : []),
        ...(metrics.size > 1 ? [group.metric] : []),
        ...axes.map((axis) => group.axes.find(([name]) => name === axis)?.[1] ?? ''),
        ...(hasEpsilon ? [epsilonOf(comparison) ?? ''] : []),
        ...arms.map((arm) => {
          const result = armOf(arm);
          return result ? showEstimate(result) : '–';
        }),
        ...(hasCeiling ? [comparison.ceiling ? showEstimate(comparison.ceiling) : '–'] : []),
        comparison.majority === null ? '–' : digits(comparison.majority),
      ];
    }),
  );
  const metric = metrics.size === 1 ? metricName([...metrics][0]!) : 'The metric';
  return { header, rows, note: `${metric} on real test records. ${intervalNote(comparisons)}` };
}

export const metricName = (metric: ComparisonResult['metric']): string =>
  metric === 'accuracy' ? 'Accuracy' : 'Macro-F1';

/** What the brackets mean, said once. */
export function intervalNote(comparisons: readonly ComparisonResult[]): string {
  const estimates = comparisons.flatMap(({ arms, ceiling }) => [...arms, ...(ceiling ? [ceiling] : [])]);
  const single = estimates.some(({ covers }) => covers === 'test set');
  const several = estimates.some(({ covers }) => covers === 'runs');
  const parts = ['Brackets are 95 % intervals'];
  if (several) parts.push(`${single ? ': for n > 1' : ''} of the mean over n runs (Student's t)`);
  if (single) {
    parts.push(
      `${several ? '; for n = 1' : ': for n = 1'} they cover the size of the test set only (Wilson), not how much another seed would differ`,
    );
  }
  if (comparisons.some(({ noisyCounts }) => noisyCounts)) {
    parts.push('; counts of private test records have charged noise, which the intervals include');
  }
  return parts.join('') + '.';
}
