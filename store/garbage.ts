/** @file Removing stored results and plans that nothing refers to any more. */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArtifactStore, StoredArtifact } from './artifacts.ts';
import { namesIn, sizeOf } from './disk.ts';

/** What is needed of the store: content keys of results, and digests of plans. */
export interface Wanted {
  keys: ReadonlySet<string>;
  plans: ReadonlySet<string>;
}

export interface Garbage {
  results: (StoredArtifact & { bytes: number })[];
  plans: { digest: string; bytes: number }[];
  /** Results that nothing refers to, kept because they spent privacy themselves. */
  keptPaid: (StoredArtifact & { bytes: number })[];
}

/**
 * What `wanted` does not name.
 *
 * @param options.paid also results that spent privacy: to make them again is charged again
 */
export async function findGarbage(
  artifacts: ArtifactStore,
  plansFolder: string,
  wanted: Wanted,
  { paid }: { paid: boolean },
): Promise<Garbage> {
  const garbage: Garbage = { results: [], plans: [], keptPaid: [] };
  for (const artifact of await artifacts.list()) {
    if (wanted.keys.has(artifact.key)) continue;
    const isPaid = (artifact.manifest?.charges ?? []).length > 0;
    const entry = { ...artifact, bytes: await sizeOf(artifact.directory) };
    (isPaid && !paid ? garbage.keptPaid : garbage.results).push(entry);
  }
  for (const file of await namesIn(plansFolder)) {
    const digest = file.replace(/\.json$/, '');
    if (!/^[0-9a-f]{64}$/.test(digest) || wanted.plans.has(digest)) continue;
    garbage.plans.push({ digest, bytes: await sizeOf(join(plansFolder, file)) });
  }
  return garbage;
}

/**
 * Removes it. Results are moved out of sight first; those that `wanted`, asked again, names by then are put back: a run
 * may have been started meanwhile. Interrupted, it leaves nothing half: what is out of sight goes with the next sweep.
 */
export async function removeGarbage(
  artifacts: ArtifactStore,
  plansFolder: string,
  { results, plans }: Garbage,
  wanted: () => Promise<Wanted>,
): Promise<void> {
  const aside = [];
  for (const { directory, key } of results) aside.push({ key, back: await artifacts.moveAside(directory, key) });
  const now = await wanted();
  for (const { key, back } of aside) if (now.keys.has(key)) await back();
  await artifacts.sweep((owner) => Promise.resolve(!owner.startsWith('removed-')));
  for (const { digest } of plans) {
    if (!now.plans.has(digest)) await rm(join(plansFolder, `${digest}.json`), { force: true });
  }
}
