/** @file Plans of a shared store; those that were read lie in a folder of this host too. */

import type { Plan } from '../schemas/plan.ts';
import type { ObjectStorage } from './objects.ts';
import {
  isPlanDigest,
  parsePlan,
  planMissing,
  wholePlan,
  type PlanFolder,
  type Plans,
  type StoredPlan,
} from './plans.ts';

/** A run of a plan that was just saved, on whatever host, may not be registered yet; milliseconds. */
const startTime = 3600_000;

const nameOf = (digest: string): string => `plans/${digest}.json`;

export class SharedPlans implements Plans {
  private readonly here: PlanFolder;
  private readonly objects: ObjectStorage;
  private readonly startTime: number;

  constructor(here: PlanFolder, objects: ObjectStorage, startTimeOfRuns = startTime) {
    this.here = here;
    this.objects = objects;
    this.startTime = startTimeOfRuns;
  }

  async save(plan: Plan): Promise<void> {
    await this.here.save(plan);
    // Also where it is there already: its age tells that it is about to be used.
    await this.objects.put(nameOf(plan.digest), Buffer.from(JSON.stringify(plan)));
  }

  async load(digest: string): Promise<Plan> {
    const present = await wholePlan(this.here, digest);
    if (present) return present;
    const plan = await this.shared(digest);
    await this.here.save(plan);
    return plan;
  }

  private async shared(digest: string): Promise<Plan> {
    const found = await this.objects.get(nameOf(digest));
    if (found === null) throw planMissing(digest, this.objects.url);
    return parsePlan(found.content.toString('utf8'), digest);
  }

  async list(): Promise<StoredPlan[]> {
    const bytes = new Map((await this.here.list()).map((plan) => [plan.digest, plan.bytes]));
    for (const object of await this.objects.list('plans/')) {
      const digest = object.name.slice('plans/'.length).replace(/\.json$/, '');
      const isYoung = Date.now() - object.modified < this.startTime;
      if (isYoung) bytes.delete(digest);
      else if (isPlanDigest(digest)) bytes.set(digest, object.bytes);
    }
    return [...bytes].map(([digest, size]) => ({ digest, bytes: size }));
  }

  async remove(digest: string): Promise<void> {
    await this.objects.remove([nameOf(digest)]);
    await this.here.remove(digest);
  }
}
