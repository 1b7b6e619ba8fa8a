/** @file Checks of a dataset before anything runs. */

import { access, constants } from 'node:fs/promises';

import { EpsilonflowError } from '../schemas/errors.ts';
import { loadSplit } from './records.ts';
import { type DatasetSource, splits } from './source.ts';

/** How many invalid records of a split are named. */
const shownRecords = 5;

/**
 * All faults of a dataset: missing files or columns, encoding, invalid records (the first five of each split), empty
 * or one-class splits. Empty when it is fine.
 *
 * Of a private dataset only what no row decides is checked: that the files can be opened, that their containers are
 * whole and have the columns in a header or schema. With `inspectPrivate` (`validate --inspect`) its rows are checked
 * too, and the faults are then non-private: they may be shown to the caller and go nowhere else.
 */
export async function inspectDataset(
  source: DatasetSource,
  options: { inspectPrivate?: boolean } = {},
): Promise<EpsilonflowError[]> {
  const faults: EpsilonflowError[] = [];
  for (const split of splits) {
    const file = source.files[split];
    if (file === undefined) continue;
    const readable = await access(file.path, constants.R_OK).then(
      () => true,
      () => false,
    );
    if (!readable) {
      faults.push(
        new EpsilonflowError('DATA_FILE_MISSING', `Data file ${file.path} does not exist or cannot be read`, {
          hint: 'Paths in a spec are relative to the spec file; check the path and its permissions.',
        }),
      );
      continue;
    }
    const options_ = { limit: shownRecords, inspectPrivate: options.inspectPrivate === true };
    faults.push(...(await loadSplit(source, split, options_)).faults);
  }
  return faults;
}
