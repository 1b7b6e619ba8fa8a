/** @file The order of labels and sensitivities, and what may leave the private store. */

import type { Label, PlanNode, Sensitivity } from './plan.ts';

const labels: readonly Label[] = ['public', 'dp', 'non-private'];
const sensitivities: readonly Sensitivity[] = ['public', 'benchmark', 'private'];

/** The most restrictive of some labels; `public` of none. */
export const joinLabels = (of: readonly Label[]): Label =>
  labels[Math.max(0, ...of.map((label) => labels.indexOf(label)))]!;

/** The most sensitive of some; `public` of none. */
export const joinSensitivities = (of: readonly Sensitivity[]): Sensitivity =>
  sensitivities[Math.max(0, ...of.map((sensitivity) => sensitivities.indexOf(sensitivity)))]!;

/** Whether the numbers that a node reports may leave: always unless they are non-private values of private data. */
export const metricsMayLeave = ({
  label,
  sensitivity,
  waivers,
}: Pick<PlanNode, 'label' | 'sensitivity' | 'waivers'>): boolean =>
  label !== 'non-private' || sensitivity !== 'private' || waivers.includes('test-metrics');
