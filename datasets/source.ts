/** @file What the data layer needs to know of a dataset, and what it gives. */

import type { PlanDataset } from '../schemas/plan.ts';

/** A dataset as far as reading it goes: a `PlanDataset` is one; the compiler builds one before digests exist. */
export type DatasetSource = Pick<PlanDataset, 'name' | 'files' | 'text' | 'label' | 'sensitivity'>;

export type Split = 'train' | 'validation' | 'test';

/** In the order in which digests and reports take them. */
export const splits: readonly Split[] = ['train', 'validation', 'test'];

export interface TextRecord {
  text: string;
  /** Index into the dataset's `label.values`; -1 when the dataset has no label. */
  label: number;
}

/**
 * What an invalid record of a private dataset is read as. Dropping it would make the number of records depend on
 * content, and an error would tell about a row.
 */
export const emptyRecord = (source: Pick<DatasetSource, 'label'>): TextRecord => ({
  text: '',
  label: source.label === null ? -1 : 0,
});
