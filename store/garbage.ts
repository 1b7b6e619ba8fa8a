/** @file Removing stored results and plans that nothing refers to any more. */

import type { Artifacts, StoredArtifact } from './artifacts.ts';
import type { Plans, StoredPlan } from './plans.ts';

/** What is needed of the store: content keys of results, and digests of plans. */
export interface Wanted {
  keys: ReadonlySet<string>;
  plans: ReadonlySet<string>;
}

export interface Garbage {
  results: StoredArtifact[];
  plans: StoredPlan[];
  /** Results that nothing refers to, kept because they spent privacy themselves. */
  keptPaid: StoredArtifact[];
}

/** What is tidied. */
export interface Shelves {
  artifacts: Artifacts;
  plans: Plans;
}

/**
 * What `wanted` does not name.
 *
 * @param options.paid also results that spent privacy: to make them again is charged again
 */
export async function findGarbage(
  { artifacts, plans }: Shelves,
  wanted: Wanted,
  { paid }: { paid: boolean },
): Promise<Garbage> {
  const garbage: Garbage = { results: [], plans: [], keptPaid: [] };
  for (const artifact of await artifacts.list(wanted.keys)) {
    const isPaid = (artifact.manifest?.charges ?? []).length > 0;
    (isPaid && !paid ? garbage.keptPaid : garbage.results).push(artifact);
  }
  for (const plan of await plans.list()) if (!wanted.plans.has(plan.digest)) garbage.plans.push(plan);
  return garbage;
}

/**
 * Removes it. Results are moved out of sight first; those that `wanted`, asked again, names by then are put back: a run
 * may have been started meanwhile. Interrupted, it leaves nothing half: what is out of sight goes with the next sweep.
 */
export async function removeGarbage(
  { artifacts, plans }: Shelves,
  garbage: Garbage,
  wanted: () => Promise<Wanted>,
): Promise<void> {
  const aside = [];
  for (const { key } of garbage.results) aside.push({ key, back: await artifacts.moveAside(key) });
  const now = await wanted();
  for (const { key, back } of aside) if (now.keys.has(key)) await back();
  await artifacts.sweep((owner) => Promise.resolve(!owner.startsWith('removed-')));
  for (const { digest } of garbage.plans) if (!now.plans.has(digest)) await plans.remove(digest);
}
