/** @file The plan as the tracker shows it. Pure. */

import type { Plan, PlanDataset } from '../../schemas/plan.ts';

type ShownDataset = Omit<PlanDataset, 'files'> & { files: Record<string, unknown> };

/** Names, settings and digests, which are keyed for private data; where those lie is nobody's business outside. */
export const shownPlan = (plan: Plan): Omit<Plan, 'datasets'> & { datasets: Record<string, ShownDataset> } => ({
  ...plan,
  datasets: Object.fromEntries(
    Object.entries(plan.datasets).map(([name, dataset]) => [
      name,
      dataset.sensitivity === 'private' ? { ...dataset, files: withoutPaths(dataset.files) } : dataset,
    ]),
  ),
});

const withoutPaths = (files: PlanDataset['files']): Record<string, unknown> =>
  Object.fromEntries(Object.entries(files).map(([split, { format, compression }]) => [split, { format, compression }]));
