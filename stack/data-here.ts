/**
 * @file Private data that this host has, of specs that its worker was given and of runs in its state folder. Each was read
 * here and held against its digest.
 */

import { dataNames, type PlannedData } from '../activities/step-queue.ts';
import { readDigested } from '../datasets/index.ts';
import type { Plan, PlanDataset } from '../schemas/plan.ts';
import type { Store } from '../store/index.ts';
import { readRun, runDirectories } from '../tracking/runs.ts';

export class DataHere {
  /** Given ones and what was found in addition, with places on this host. */
  readonly plans: PlannedData[];
  private readonly store: Pick<Store, 'loadPlan'>;
  private readonly datasetSecret: () => Promise<Buffer>;
  private readonly known = new Set<string>();
  /** Digests of what is here. */
  private readonly found = new Set<string>();

  /** @param given plans that were compiled on this host: their digests are of what lies here */
  constructor(
    given: readonly PlannedData[],
    { store, datasetSecret }: { store: Pick<Store, 'loadPlan'>; datasetSecret: () => Promise<Buffer> },
  ) {
    this.plans = [...given];
    this.store = store;
    this.datasetSecret = datasetSecret;
    for (const dataset of given.flatMap(privateOnes)) this.found.add(dataset.digest);
  }

  /** Names of the data of all queues that this host can serve. */
  names(): string[] {
    return dataNames([...this.found].map((digest) => ({ digest })));
  }

  /** Looks at runs that have come since the last time. */
  async look(): Promise<void> {
    for (const directory of runDirectories()) {
      if (this.known.has(directory)) continue;
      const plan = await this.planOf(directory);
      if (plan === null) continue;
      this.known.add(directory);
      for (const dataset of privateOnes(plan)) if (await this.isHere(dataset)) this.found.add(dataset.digest);
    }
  }

  /** Null while the folder holds no run, or its plan can't be had. */
  private async planOf(directory: string): Promise<Plan | null> {
    try {
      return await this.store.loadPlan(readRun(directory).planDigest);
    } catch {
      return null;
    }
  }

  private async isHere(dataset: PlanDataset): Promise<boolean> {
    if (this.found.has(dataset.digest)) return true;
    try {
      return (await readDigested(dataset, await this.datasetSecret())).digest === dataset.digest;
    } catch {
      return false;
    }
  }
}

const privateOnes = ({ datasets }: Pick<Plan, 'datasets'>): PlanDataset[] =>
  Object.values(datasets).filter(({ sensitivity }) => sensitivity === 'private');
