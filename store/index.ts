/** @file Public door of the store: finished results by content key, plans by digest. */

import type { OpenedArtifact } from '../schemas/artifact.ts';
import type { Plan } from '../schemas/plan.ts';
import { sharedStoreUrl, statePaths } from '../stack/paths.ts';
import { ArtifactStore, type Artifacts } from './artifacts.ts';
import { ObjectStorage } from './objects.ts';
import { PlanFolder, type Plans } from './plans.ts';
import { noRegistry, SharedRunRegistry, type RunRegistry } from './run-registry.ts';
import { SharedArtifacts } from './shared-artifacts.ts';
import { SharedCheckpoints } from './shared-checkpoints.ts';
import { SharedLogs } from './shared-logs.ts';
import { SharedPlans } from './shared-plans.ts';

export { findGarbage, removeGarbage, type Garbage, type Wanted } from './garbage.ts';
export type { LogRange, SharedLogs } from './shared-logs.ts';
export { newestCheckpoint, type SharedCheckpoints } from './shared-checkpoints.ts';
export type { RunRegistry } from './run-registry.ts';
export { ArtifactStore, isPaidBy, type Artifacts, type UnpublishedManifest } from './artifacts.ts';

/** What those need who only read results. */
export interface ArtifactReader {
  lookup(key: string): Promise<OpenedArtifact | null>;
}

export interface Store extends ArtifactReader {
  artifacts: Artifacts;
  plans: Plans;
  runs: RunRegistry;
  /** Null where the store is this host's alone. */
  checkpoints: SharedCheckpoints | null;
  /** Null as above. */
  logs: SharedLogs | null;
  savePlan(plan: Plan): Promise<void>;
  /** Plans that were read are kept in memory. @throws EpsilonflowError PLAN_MISSING, PLAN_ALTERED */
  loadPlan(digest: string): Promise<Plan>;
}

/**
 * Opens the store of the state folder (`EPSILONFLOW_HOME`), or the one that `EPSILONFLOW_STORE_URL` names, of which the
 * state folder then keeps copies. Makes no folder before something is written.
 *
 * @throws EpsilonflowError ARGUMENT_INVALID
 */
export function openStore(): Store {
  const here = {
    artifacts: new ArtifactStore({ shared: statePaths.sharedStore(), private: statePaths.privateStore() }),
    plans: new PlanFolder(statePaths.plans()),
  };
  const url = sharedStoreUrl();
  if (url === null) return storeOf({ ...here, runs: noRegistry, checkpoints: null, logs: null });
  const objects = new ObjectStorage(url);
  return storeOf({
    artifacts: new SharedArtifacts(here.artifacts, objects),
    plans: new SharedPlans(here.plans, objects),
    runs: new SharedRunRegistry(objects, statePaths.owner()),
    checkpoints: new SharedCheckpoints(objects),
    logs: new SharedLogs(objects, statePaths.owner()),
  });
}

function storeOf(parts: Pick<Store, 'artifacts' | 'plans' | 'runs' | 'checkpoints' | 'logs'>): Store {
  const plans = new Map<string, Promise<Plan>>();
  return {
    ...parts,
    lookup: (key) => parts.artifacts.lookup(key),
    savePlan: (plan) => parts.plans.save(plan),
    loadPlan: (digest) => {
      let plan = plans.get(digest);
      if (!plan) {
        plan = parts.plans.load(digest);
        plans.set(digest, plan);
        plan.catch(() => plans.delete(digest));
        if (plans.size > 8) plans.delete(plans.keys().next().value!);
      }
      return plan;
    },
  };
}
