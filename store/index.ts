/** @file Public door of the store: finished results by content key, plans by digest. */

import type { OpenedArtifact } from '../schemas/artifact.ts';
import type { Plan } from '../schemas/plan.ts';
import { statePaths } from '../stack/paths.ts';
import { ArtifactStore } from './artifacts.ts';
import { loadPlan, savePlan } from './plans.ts';

export { findGarbage, removeGarbage, type Garbage, type Wanted } from './garbage.ts';
export { ArtifactStore, isPaidBy, type UnpublishedManifest } from './artifacts.ts';

/** What those need who only read results. */
export interface ArtifactReader {
  lookup(key: string): Promise<OpenedArtifact | null>;
}

export interface Store extends ArtifactReader {
  artifacts: ArtifactStore;
  savePlan(plan: Plan): Promise<void>;
  /** Plans that were read are kept in memory. @throws EpsilonflowError PLAN_MISSING */
  loadPlan(digest: string): Promise<Plan>;
}

/** Opens the store of the state folder (`EPSILONFLOW_HOME`). Makes no folder before something is written. */
export function openStore(): Store {
  const artifacts = new ArtifactStore({ shared: statePaths.sharedStore(), private: statePaths.privateStore() });
  const plans = new Map<string, Promise<Plan>>();
  return {
    artifacts,
    lookup: (key) => artifacts.lookup(key),
    savePlan: (plan) => savePlan(statePaths.plans(), plan),
    loadPlan: (digest) => {
      let plan = plans.get(digest);
      if (!plan) {
        plan = loadPlan(statePaths.plans(), digest);
        plans.set(digest, plan);
        plan.catch(() => plans.delete(digest));
        if (plans.size > 8) plans.delete(plans.keys().next().value!);
      }
      return plan;
    },
  };
}
