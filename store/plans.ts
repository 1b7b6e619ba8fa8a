/** @file Plans by digest. A plan never changes once saved; what is not part of the digest is not kept. */

import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { exists, namesIn, naming, sizeOf, writeDurably } from './disk.ts';

export interface StoredPlan {
  digest: string;
  bytes: number;
}

export interface Plans {
  /** Saves a plan under its digest; no-op when it is there. */
  save(plan: Plan): Promise<void>;
  /** @throws EpsilonflowError PLAN_MISSING */
  load(digest: string): Promise<Plan>;
  list(): Promise<StoredPlan[]>;
  remove(digest: string): Promise<void>;
}

export const isPlanDigest = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

export const planMissing = (digest: string, place: string): EpsilonflowError =>
  new EpsilonflowError('PLAN_MISSING', `The plan ${digest.slice(0, 12)} is not in ${place}.`, {
    hint: 'Run the spec again: compiling it makes the same plan.',
  });

/** Plans in a folder. */
export class PlanFolder implements Plans {
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  async save(plan: Plan): Promise<void> {
    const file = this.fileOf(plan.digest);
    if (await exists(file)) return;
    await naming(this.root, async () => {
      await mkdir(this.root, { recursive: true });
      await writeDurably(file, JSON.stringify(plan));
    });
  }

  async load(digest: string): Promise<Plan> {
    const text = await readFile(this.fileOf(digest), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      throw planMissing(digest, this.root);
    });
    return JSON.parse(text) as Plan;
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
