/** @file Logs of steps: what their processes write. Private, for a stack trace may quote a record. */

import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder } from '../store/disk.ts';
import { statePaths } from '../stack/paths.ts';
import type { RunIdentity } from './contract.ts';

/** Folder of a run's logs, one file `SLUG.log` an instance. */
export const stepLogFolder = (name: string, number: number): string =>
  join(statePaths.privateStore(), 'logs', name, String(number));

/** Removes the logs of runs that are not there any more; returns their names. With `dryRun` it only tells them. */
export async function removeStepLogs(
  isThere: (name: string, number: number) => boolean,
  dryRun: boolean,
): Promise<string[]> {
  const root = join(statePaths.privateStore(), 'logs');
  const gone: string[] = [];
  for (const name of await readdir(root).catch(() => [])) {
    for (const number of await readdir(join(root, name)).catch(() => [])) {
      if (isThere(name, Number(number))) continue;
      gone.push(`${name}/${number}`);
      if (!dryRun) await rm(join(root, name, number), { recursive: true, force: true });
    }
  }
  return gone;
}

/** Path of an instance's log, in a folder that exists. All its attempts append to one file. */
export async function openStepLog(run: RunIdentity, node: { slug: string }): Promise<string> {
  await makePrivateFolder(statePaths.privateStore());
  const folder = stepLogFolder(run.name, run.number);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return join(folder, `${node.slug}.log`);
}
