/** @file Plans of a shared store; those that were read lie in a folder of this host too. */

import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import type { ObjectStorage } from './objects.ts';
import { isPlanDigest, planMissing, type PlanFolder, type Plans, type StoredPlan } from './plans.ts';

const nameOf = (digest: string): string => `plans/${digest}.json`;

export class SharedPlans implements Plans {
  private readonly here: PlanFolder;
  private readonly objects: ObjectStorage;

  constructor(here: PlanFolder, objects: ObjectStorage) {
    this.here = here;
    this.objects = objects;
  }

  async save(plan: Plan): Promise<void> {
    await this.here.save(plan);
    await this.objects.put(nameOf(plan.digest), Buffer.from(JSON.stringify(plan)), 'absent');
  }

  async load(digest: string): Promise<Plan> {
    const present = await this.here.load(digest).catch((error: unknown) => {
      if (error instanceof EpsilonflowError && error.code === 'PLAN_MISSING') return null;
      throw error;
    });
    if (present) return present;
    const found = await this.objects.get(nameOf(digest));
    const plan = found && parsed(found.content);
    if (plan?.digest !== digest) throw planMissing(digest, this.objects.url);
    await this.here.save(plan);
    return plan;
  }

  async list(): Promise<StoredPlan[]> {
    const bytes = new Map((await this.here.list()).map((plan) => [plan.digest, plan.bytes]));
    for (const object of await this.objects.list('plans/')) {
      const digest = object.name.slice('plans/'.length).replace(/\.json$/, '');
      if (isPlanDigest(digest)) bytes.set(digest, object.bytes);
    }
    return [...bytes].map(([digest, size]) => ({ digest, bytes: size }));
  }

  async remove(digest: string): Promise<void> {
    await this.objects.remove([nameOf(digest)]);
    await this.here.remove(digest);
  }
}

function parsed(content: Buffer): Plan | null {
  try {
    return JSON.parse(content.toString('utf8')) as Plan;
  } catch {
    return null;
  }
}
