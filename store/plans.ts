/** @file Plans by digest. A plan never changes once saved; what is not part of the digest is not kept. */

import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCodes } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { planDigest } from '../schemas/plan-digest.ts';
import { namesIn, naming, sizeOf, writeDurably } from './disk.ts';

export interface StoredPlan {
  digest: string;
  bytes: number;
}

export interface Plans {
  /** Saves a plan under its digest; no-op when it is there, unaltered. */
  save(plan: Plan): Promise<void>;
  /** @throws EpsilonflowError PLAN_MISSING, PLAN_ALTERED */
  load(digest: string): Promise<Plan>;
  /** Without those that hosts share and saved a moment ago: a run of them may be about to start. */
  list(): Promise<StoredPlan[]>;
  remove(digest: string): Promise<void>;
}

export const isPlanDigest = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

export const planMissing = (digest: string, place: string): EpsilonflowError =>
  new EpsilonflowError('PLAN_MISSING', `The plan ${digest.slice(0, 12)} is not in ${place}.`, {
    hint: 'Run the spec again: compiling it makes the same plan.',
  });

/**
 * The plan that a text holds. What is charged was reserved by its digest, so nothing may run by a plan that has another.
 *
 * @throws EpsilonflowError PLAN_ALTERED
 */
export function parsePlan(text: string, digest: string): Plan {
  try {
    const plan = JSON.parse(text) as Plan;
    if (plan.digest === digest && planDigest(plan) === digest) return plan;
  } catch {
    // Cut or otherwise no plan.
  }
  const message = `The plan ${digest.slice(0, 12)} was altered: its content has another digest.`;
  throw new EpsilonflowError('PLAN_ALTERED', message, { hint: errorCodes.PLAN_ALTERED.remedy });
}

/** A plan as it was saved; null when it is missing or altered. */
export async function wholePlan(plans: Pick<Plans, 'load'>, digest: string): Promise<Plan | null> {
  try {
    return await plans.load(digest);
  } catch (error) {
    if (error instanceof EpsilonflowError && (error.code === 'PLAN_MISSING' || error.code === 'PLAN_ALTERED'))
      return null;
    throw error;
  }
}

/** Plans in a folder. */
export class PlanFolder implements Plans {
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  async save(plan: Plan): Promise<void> {
    if (await wholePlan(this, plan.digest)) return;
    await naming(this.root, async () => {
      await mkdir(this.root, { recursive: true });
      await writeDurably(this.fileOf(plan.digest), JSON.stringify(plan));
    });
  }

  async load(digest: string): Promise<Plan> {
    const text = await readFile(this.fileOf(digest), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      throw planMissing(digest, this.root);
    });
    return parsePlan(text, digest);
  }

  async list(): Promise<StoredPlan[]> {
    const digests = (await namesIn(this.root)).map((name) => name.replace(/\.json$/, '')).filter(isPlanDigest);
    return Promise.all(digests.map(async (digest) => ({ digest, bytes: await sizeOf(this.fileOf(digest)) })));
  }

  remove(digest: string): Promise<void> {
    return rm(this.fileOf(digest), { force: true });
  }

  private fileOf(digest: string): string {
    return join(this.root, `${digest}.json`);
  }
}
