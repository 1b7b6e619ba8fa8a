/** @file What Temporal finds runs and their steps by, where the server knows these attributes. Nothing of the data. */

import type { SearchAttributePair } from '@temporalio/common';

export const searchAttributes = {
  experiment: { name: 'EpsilonflowExperiment', type: 'KEYWORD' },
  plan: { name: 'EpsilonflowPlan', type: 'KEYWORD' },
  step: { name: 'EpsilonflowStep', type: 'KEYWORD_LIST' },
  dataset: { name: 'EpsilonflowDataset', type: 'KEYWORD_LIST' },
  epsilon: { name: 'EpsilonflowEpsilon', type: 'KEYWORD_LIST' },
} as const;

export interface Findable {
  experiment: string;
  planDigest: string;
  steps: readonly string[];
  datasets: readonly string[];
  epsilons: readonly string[];
}

export const attributesOf = ({
  experiment,
  planDigest,
  steps,
  datasets,
  epsilons,
}: Findable): SearchAttributePair[] => [
  { key: searchAttributes.experiment, value: experiment },
  { key: searchAttributes.plan, value: planDigest },
  { key: searchAttributes.step, value: fitting(steps) },
  { key: searchAttributes.dataset, value: fitting(datasets) },
  { key: searchAttributes.epsilon, value: fitting(epsilons) },
];

/** Temporal takes 2 KB a value: of what is longer the first. */
const mostBytes = 1_500;

function fitting(values: readonly string[]): string[] {
  let bytes = 0;
  return [...new Set(values)].filter((value) => (bytes += 3 * value.length + 3) <= mostBytes);
}
