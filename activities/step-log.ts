/** @file Logs of steps: what their processes write. Private, for a stack trace may quote a record. */

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makePrivateFolder, namesIn } from '../store/disk.ts';
import { statePaths } from '../stack/paths.ts';
import type { RunIdentity } from './contract.ts';

/** Folder of a run's logs, one file `SLUG.log` an instance. */
export const stepLogFolder = (name: string, number: number): string =>
  join(statePaths.privateStore(), 'logs', name, String(number));

/**
 * Removes the logs of runs that are not there any more; returns their names, NAME/NUMBER. With `dryRun` it only tells them.
 *
 * @param present asked once the logs are listed: a run that starts meanwhile is among those that it names
 */
export async function removeStepLogs(present: () => ReadonlySet<string>, dryRun: boolean): Promise<string[]> {
  const root = join(statePaths.privateStore(), 'logs');
  const listed: string[] = [];
  for (const name of await namesIn(root)) {
    for (const number of await namesIn(join(root, name))) listed.push(`${name}/${number}`);
  }
  const runs = present();
  const gone = listed.filter((run) => !runs.has(run));
  if (!dryRun) for (const run of gone) await rm(join(root, run), { recursive: true, force: true });
  return gone;
}

/** Path of an instance's log, in a folder that exists. All its attempts append to one file. */
export async function openStepLog(run: RunIdentity, node: { slug: string }): Promise<string> {
  await makePrivateFolder(statePaths.privateStore());
  const folder = stepLogFolder(run.name, run.number);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return join(folder, `${node.slug}.log`);
}
