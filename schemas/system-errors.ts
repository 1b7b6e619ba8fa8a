/** @file What the system says of disks and rights, as the project's errors with a remedy. */

import { EpsilonflowError } from './errors.ts';

const fullCodes = new Set(['ENOSPC', 'EDQUOT', 'SQLITE_FULL']);
const refusedCodes = new Set(['EROFS', 'EACCES', 'EPERM', 'SQLITE_READONLY', 'SQLITE_CANTOPEN']);

/**
 * The project's error for a full disk or a refused access; other errors as they are.
 *
 * @param place names what was worked on where the system's error does not name a path.
 * @returns for those two EpsilonflowError DISK_FULL (retryable) or STORE_READ_ONLY
 */
export function systemError(error: unknown, place = 'the state folder'): unknown {
  if (error instanceof EpsilonflowError || typeof error !== 'object' || error === null) return error;
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  const where = path ?? (code.startsWith('SQLITE_') ? 'the privacy ledger' : place);
  // SQLite's extended codes begin with the plain one: SQLITE_READONLY_DIRECTORY.
  const isOf = (codes: ReadonlySet<string>): boolean =>
    [...codes].some((known) => code === known || code.startsWith(`${known}_`));
  if (isOf(fullCodes)) {
    return new EpsilonflowError('DISK_FULL', `No space is left on the disk that holds ${where}.`, {
      hint: 'Free some space there: nothing is lost, and a running step is tried again by itself. EPSILONFLOW_HOME moves the state to another disk.',
      cause: error,
    });
  }
  if (isOf(refusedCodes)) {
    return new EpsilonflowError('STORE_READ_ONLY', `${where} cannot be used (${code}).`, {
      hint: 'Give this user the right to read and write there, or point EPSILONFLOW_HOME (state) or EPSILONFLOW_LEDGER_URL (ledger) elsewhere.',
      cause: error,
    });
  }
  return error;
}
