/**
 * @file Private data that this host has, of specs that its worker was given and of runs in its state folder. Each was read
 * here and held against its digest.
 */

import { existsSync } from 'node:fs';
import { dataNames, type PlannedData } from '../activities/step-queue.ts';
import { troubles } from '../activities/troubles.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan, PlanDataset } from '../schemas/plan.ts';
import type { Store } from '../store/index.ts';
import { readRun, runDirectories } from '../tracking/runs.ts';
import { digestHere } from './digest-here.ts';

/** How long data that can't be read are left alone, milliseconds: to read them may take long. */
const readAgainAfter = 60_000;

export class DataHere {
  /** Given ones and what was found in addition, with places on this host. */
  readonly plans: PlannedData[];
  private readonly store: Pick<Store, 'loadPlan'>;
  private readonly datasetSecret: () => Promise<Buffer>;
  private readonly known = new Set<string>();
  /** Digests of what is here. */
  private readonly found = new Set<string>();
  /** What known runs read and is not found yet: its files may come later. */
  private readonly sought: PlanDataset[] = [];
  /** By digest, when files that could not be read are read again. */
  private readonly readAgainAt = new Map<string, number>();

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

  /**
   * Looks at runs that have come since the last time, and for files that were not there.
   *
   * @throws what the ledger throws that has the secret of digests; nothing is forgotten then
   */
  async look(): Promise<void> {
    for (const directory of runDirectories()) {
      if (this.known.has(directory)) continue;
      const plan = await this.planOf(directory);
      if (plan === null) continue;
      this.known.add(directory);
      this.sought.push(...privateOnes(plan));
    }
    if (this.sought.length === 0) return;
    const secret = await this.datasetSecret();
    for (const dataset of this.sought.splice(0)) if (await this.isMissing(dataset, secret)) this.sought.push(dataset);
  }

  /** Null while the folder holds no run, or its plan can't be had. */
  private async planOf(directory: string): Promise<Plan | null> {
    try {
      return await this.store.loadPlan(readRun(directory).planDigest);
    } catch {
      return null;
    }
  }

  /** Takes note of data that are here. Other data in their place stay other data; files that can't be read may change. */
  private async isMissing(dataset: PlanDataset, secret: Buffer): Promise<boolean> {
    const { name, digest, files } = dataset;
    if (this.found.has(digest)) return false;
    const isThere = Object.values(files).every(({ path }) => existsSync(path));
    if (!isThere || Date.now() < (this.readAgainAt.get(digest) ?? 0)) return true;
    try {
      if ((await digestHere(dataset, secret)) !== digest) return false;
    } catch (error) {
      if (error instanceof EpsilonflowError && error.code === 'DATA_FILE_MISSING') return true;
      this.readAgainAt.set(digest, Date.now() + readAgainAfter);
      troubles.note(`Steps on dataset ${name} are not taken here, for its files could not be read`, error);
      return true;
    }
    this.found.add(digest);
    this.plans.push({ datasets: { [name]: dataset }, models: {} });
    return false;
  }
}

const privateOnes = ({ datasets }: Pick<Plan, 'datasets'>): PlanDataset[] =>
  Object.values(datasets).filter(({ sensitivity }) => sensitivity === 'private');
