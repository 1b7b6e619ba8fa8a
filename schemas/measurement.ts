/** @file What a `measure` step finds, as it stands in its `measures.json`. */

/** Which rows a figure is of: synthetic, other test, or training rows, each held against the same test rows. */
export type MeasuredRows = 'synthetic' | 'ceiling' | 'train';

export interface MeasuredFigure {
  value: number;
  /** Standard error that the choice of rows gives it. */
  error: number;
}

export interface Measurement {
  /** Rows of each set: all are of one size. */
  rows: number;
  /** Bootstrap resamples behind errors that have no closed form. */
  resamples: number;
  /** What made vectors of texts, in words; null where nothing did. */
  vectors: string | null;
  /** By name of the measure; a set for which it means nothing is absent. */
  measures: Record<string, Partial<Record<MeasuredRows, MeasuredFigure>>>;
  /** What could not be measured -> why. */
  leftOut: Record<string, string>;
}
