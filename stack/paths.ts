/** @file Where everything lies on disk. The only place that knows folder names. */

import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder of this package: the clone. */
export const packageRoot = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** Installed parts (Python environment, TensorFlow library, binding, demo data): shared by all state folders. */
export const partsRoot = join(packageRoot, '.epsilonflow');

/** Expands a leading `~`. */
const expand = (path: string): string => (path.startsWith('~/') ? join(homedir(), path.slice(2)) : resolve(path));

/** Run state: services, store, runs. `EPSILONFLOW_HOME` overrides it, so that tests keep a state of their own. */
export function stateRoot(): string {
  const override = process.env['EPSILONFLOW_HOME'];
  return override ? expand(override) : partsRoot;
}

export const statePaths = {
  services: () => join(stateRoot(), 'services'),
  /** Artifacts labelled `public` or `dp`. */
  sharedStore: () => join(stateRoot(), 'store', 'shared'),
  /** Non-private artifacts and checkpoints; mode 0700. */
  privateStore: () => join(stateRoot(), 'store', 'private'),
  plans: () => join(stateRoot(), 'plans'),
  runs: () => join(stateRoot(), 'runs'),
  run: (name: string, number: number) => join(stateRoot(), 'runs', name, String(number)),
  /** What became of the firings of a schedule. */
  firings: (schedule: string) => join(stateRoot(), 'schedules', `${schedule}.jsonl`),
  /** Newest head of each ledger that was used from here. */
  ledgerHeads: () => join(stateRoot(), 'ledger-heads.json'),
  /** Name of this state folder among those that share a store. */
  owner: () => join(stateRoot(), 'owner'),
  /** Models fetched from the hub. */
  models: () => join(stateRoot(), 'models'),
  xlaCache: () => join(stateRoot(), 'cache', 'xla'),
};

/** `sqlite:FILE` or `postgres://...`. Apart from run state, so that deleting that resets no budget. */
export function ledgerUrl(): string {
  return process.env['EPSILONFLOW_LEDGER_URL'] ?? `sqlite:${join(packageRoot, 'privacy-ledger', 'ledger.db')}`;
}

/** `s3://BUCKET/PREFIX`: the store that hosts share; null where results stay in the state folder. */
export function sharedStoreUrl(): string | null {
  return process.env['EPSILONFLOW_STORE_URL'] || null;
}
