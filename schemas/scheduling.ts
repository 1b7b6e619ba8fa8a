/** @file How a run shares workers with others. No result depends on it: it is in no content key and in no plan. */

/** What steps run on, beside those that are done at once. */
export type Resource = 'cpu' | 'gpu';

export interface Scheduling {
  /** 1 goes first, 5 last; absent: 3. */
  priority?: number;
  /** Most steps of a run at a time, by what they run on; absent: as many as workers take. */
  limits?: Partial<Record<Resource, number>>;
}
