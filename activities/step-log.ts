/** @file Logs of steps: what their processes write. Private, for a stack trace may quote a record. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder } from '../store/disk.ts';
import { statePaths } from '../stack/paths.ts';
import type { RunIdentity } from './contract.ts';

/** Folder of a run's logs, one file `SLUG.log` an instance. */
export const stepLogFolder = (name: string, number: number): string =>
  join(statePaths.privateStore(), 'logs', name, String(number));

/** Path of an instance's log, in a folder that exists. All its attempts append to one file. */
export async function openStepLog(run: RunIdentity, node: { slug: string }): Promise<string> {
  await makePrivateFolder(statePaths.privateStore());
  const folder = stepLogFolder(run.name, run.number);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return join(folder, `${node.slug}.log`);
}
