/** @file Tells a full disk from other reasons why something did not start. */

import { statfsSync } from 'node:fs';

import { EpsilonflowError } from '../schemas/errors.ts';
import { stateRoot } from './paths.ts';

/** Servers and workers need more than this many bytes to start. */
const needed = 16 * 2 ** 20;

/** DISK_FULL when the disk of the state folder has no room; else the given error. */
export function orDiskFull(error: EpsilonflowError): EpsilonflowError {
  const { bavail, bsize } = statfsSync(stateRoot());
  if (bavail * bsize >= needed) return error;
  return new EpsilonflowError('DISK_FULL', `No space is left on the disk that holds ${stateRoot()}.`, {
    hint: 'Free some space there and run the same command again: nothing is lost. EPSILONFLOW_HOME moves the state to another disk.',
    cause: error,
  });
}
