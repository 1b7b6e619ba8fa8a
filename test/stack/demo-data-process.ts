/** Test process: prepares one demo dataset into the folder that is given. */

import { demoDatasets, prepareDataset } from '../../stack/demo-data/prepare.ts';

const [name, root] = process.argv.slice(2) as [string, string];
prepareDataset(
  demoDatasets.find((dataset) => dataset.name === name)!,
  root,
);
