/** @file Plans on disk, by digest. A plan never changes once saved; what is not part of the digest is not kept. */

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import { exists, naming, writeDurably } from './disk.ts';

const fileOf = (root: string, digest: string): string => join(root, `${digest}.json`);

/** Saves a plan under its digest; no-op when it is there. */
export async function savePlan(root: string, plan: Plan): Promise<void> {
  if (await exists(fileOf(root, plan.digest))) return;
  await naming(root, async () => {
    await mkdir(root, { recursive: true });
    await writeDurably(fileOf(root, plan.digest), JSON.stringify(plan));
  });
}

/** @throws EpsilonflowError PLAN_MISSING */
export async function loadPlan(root: string, digest: string): Promise<Plan> {
  const text = await readFile(fileOf(root, digest), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    throw new EpsilonflowError('PLAN_MISSING', `The plan ${digest.slice(0, 12)} is not in ${root}.`, {
      hint: 'Run the spec again: compiling it makes the same plan.',
    });
  });
  return JSON.parse(text) as Plan;
}
