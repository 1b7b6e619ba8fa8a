/** @file Public door of the data layer: records, digests and checks of the datasets that a spec names. */

export type { DatasetSource, Split, TextRecord } from './source.ts';
export { splits } from './source.ts';
export { readRecords } from './records.ts';
export { readSynthetic, readSyntheticLabels } from './synthetic.ts';
export { checkUnchanged, datasetDigest } from './digest.ts';
export { inspectDataset } from './inspect.ts';
