/** @file The order of labels and of sensitivities. */

import type { Label, Sensitivity } from './plan.ts';

const labels: readonly Label[] = ['public', 'dp', 'non-private'];
const sensitivities: readonly Sensitivity[] = ['public', 'benchmark', 'private'];

/** The most restrictive of some labels; `public` of none. */
export const joinLabels = (of: readonly Label[]): Label =>
  labels[Math.max(0, ...of.map((label) => labels.indexOf(label)))]!;

/** The most sensitive of some; `public` of none. */
export const joinSensitivities = (of: readonly Sensitivity[]): Sensitivity =>
  sensitivities[Math.max(0, ...of.map((sensitivity) => sensitivities.indexOf(sensitivity)))]!;
