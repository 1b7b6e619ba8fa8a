import { join } from 'node:path';
import { packageRoot } from '../stack/paths.ts';

/** Folder with the data that tests read and the project does not carry. */
export const sharedData = process.env['EPSILONFLOW_DATA'] ?? join(packageRoot, '..', 'shared', 'data');

/** Epsilons that other libraries and our own lower bounds give. */
export const sharedAccounting = join(sharedData, '..', 'accounting');
