/** @file Public door of the data layer: records, digests and checks of the datasets that a spec names. */

export type { DatasetRecords } from './digest.ts';
export type { DatasetSource, Split, TextRecord } from './source.ts';
export { splits } from './source.ts';
export { readRecords } from './records.ts';
export { readSynthetic, readSyntheticLabels } from './synthetic.ts';
export { readDigested, readPlanned } from './digest.ts';
export { inspectDataset } from './inspect.ts';
export { jsonLines, readDecontaminated, writeDecontaminated, type Decontamination } from './decontaminated.ts';
