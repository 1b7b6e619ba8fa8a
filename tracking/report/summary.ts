/** @file The question and the answer of a run in words, computed from its results. Says what the data bear, no more. */

import type { ArmResult, ComparisonResult, Estimate, RunResults } from '../results.ts';
import type { Block } from './document.ts';
import { renderBlocks } from './markdown.ts';
import {
  digits,
  epsilonOf,
  groupComparisons,
  isFiniteEpsilon,
  metricName,
  tableOf,
  type ComparisonGroup,
} from './table.ts';

/** What the run asked: arms, datasets and epsilons in one sentence. */
export function question(results: RunResults): string {
  const groups = groupComparisons(results.comparisons);
  if (groups.length === 0) return `What does ${results.plan.name} give?`;
  const arms = [...new Set(groups.flatMap((group) => group.arms))];
  const epsilons = [...new Set(groups.flatMap(({ rows }) => rows.map(epsilonOf)))].filter(
    (epsilon) => epsilon !== null,
  );
  const metric = metricName(groups[0]!.metric).toLowerCase();
  return (
    `Which training data gives a classifier the best ${metric} on real test records of ` +
    `${listed(groups.map(({ name }) => name))}: ${listed(arms, 'or')}` +
    (epsilons.length > 0 ? `, at ε ${epsilons.length === 1 ? '=' : 'in'} ${epsilons.join(', ')}?` : '?')
  );
}

/** The answer in one paragraph. For each group: what was reached, what it is held against, what cannot be told apart. */
export function answer(results: RunResults): string {
  const groups = groupComparisons(results.comparisons);
  if (groups.length === 0) {
    return results.plan.nodes.some(({ kind }) => kind === 'compare')
      ? 'No comparison has finished, so there is no answer yet.'
      : 'The spec compares nothing; each instance has its own figures.';
  }
  const missing = results.plan.nodes.filter(({ kind }) => kind === 'compare').length - results.comparisons.length;
  const caveats = [
    results.comparisons.some(({ arms }) => arms.some(({ n }) => n === 1))
      ? 'Where n = 1 there is one run an arm: its interval covers the test set only, and small differences may be chance.'
      : '',
    missing > 0 ? `${missing} comparison${missing === 1 ? ' is' : 's are'} missing: unfinished or failed.` : '',
  ];
  return [...groups.map(answerOf), ...caveats].filter(Boolean).join(' ');
}

function answerOf(group: ComparisonGroup): string {
  // The largest finite epsilon: the most that privacy allowed here. The table has the others.
  const comparison = group.rows.filter(isFiniteEpsilon).at(-1) ?? group.rows.at(-1)!;
  const epsilon = epsilonOf(comparison);
  const arms = [...comparison.arms].sort((a, b) => b.mean - a.mean);
  const figures = arms.map((arm) => `${arm.arm} reaches ${inWords(arm)}`);
  const beside = [
    comparison.ceiling ? `training on the real data without DP reaches ${inWords(comparison.ceiling)}` : '',
    comparison.majority === null
      ? ''
      : `always answering the most frequent class would reach ${digits(comparison.majority)}`,
  ].filter(Boolean);
  const place = `On ${group.name}${epsilon === null ? '' : ` at ε = ${epsilon}`}`;
  return [
    `${place}, ${listed(figures)}${beside.length > 0 ? `; ${listed(beside)}` : ''}.`,
    verdict(arms),
    ...arms.map((arm) => againstMajority(arm, comparison)),
  ]
    .filter(Boolean)
    .join(' ');
}

/** Whether the best arm is really the best: intervals that overlap leave it open. */
function verdict(arms: ArmResult[]): string {
  const [best, second] = arms;
  if (!best || !second) return '';
  if (!hasInterval(best) || !hasInterval(second)) return 'Without intervals nothing can be said about the order.';
  const gap = digits(best.mean - second.mean);
  return overlap(best, second)
    ? `Their intervals overlap (difference ${gap}), so this run does not tell ${best.arm} and ${second.arm} apart.`
    : `${best.arm} is ahead of ${second.arm} by ${gap}, more than the intervals explain.`;
}

function againstMajority(arm: ArmResult, { majority, metric }: ComparisonResult): string {
  if (majority === null || metric !== 'accuracy' || !hasInterval(arm) || arm.low > majority) return '';
  return `${arm.arm} is not shown to be better than the majority class.`;
}

const inWords = ({ mean, low, high, n }: Estimate): string =>
  Number.isFinite(low) && Number.isFinite(high)
    ? `${digits(mean)} (95 % interval ${digits(low)} to ${digits(high)}, n = ${n})`
    : `${digits(mean)} (n = ${n}, no interval)`;

const hasInterval = ({ low, high }: Estimate): boolean => Number.isFinite(low) && Number.isFinite(high);

const overlap = (a: Estimate, b: Estimate): boolean => a.low <= b.high && b.low <= a.high;

export function listed(items: readonly string[], word: 'and' | 'or' = 'and'): string {
  const unique = [...new Set(items)];
  if (unique.length <= 1) return unique[0] ?? '';
  return `${unique.slice(0, -1).join(', ')} ${word} ${unique.at(-1)!}`;
}

/** Blocks for the table of results; none when nothing was compared. */
export function resultBlocks(results: RunResults): Block[] {
  if (results.comparisons.length === 0) return [];
  const { header, rows, note } = tableOf(results.comparisons);
  const numbers = new Set(['ε', 'majority class']);
  return [
    {
      kind: 'table',
      caption: note,
      columns: header.map((title) => ({ title, align: numbers.has(title) ? 'right' : 'left', together: true })),
      rows,
    },
  ];
}

/** Question, answer and table, for the tracker's page of the run. */
export function summaryMarkdown(results: RunResults): string {
  return renderBlocks([
    { kind: 'paragraph', text: [{ strong: question(results) }] },
    { kind: 'paragraph', text: answer(results) },
    ...resultBlocks(results),
  ]);
}
