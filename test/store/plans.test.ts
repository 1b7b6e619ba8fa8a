import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { PlanFolder } from '../../store/plans.ts';
import { planWith } from '../chaos/made-up-plan.ts';

let root: string;
let plans: PlanFolder;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'plans-'));
  plans = new PlanFolder(root);
});
afterEach(() => rm(root, { recursive: true }));

const plan = planWith(3, 1);
const file = (): string => join(root, `${plan.digest}.json`);

describe('a plan', () => {
  it('is read as it was saved', async () => {
    await plans.save(plan);
    expect(await plans.load(plan.digest)).toEqual(plan);
  });

  it('that is not there is said to be missing', async () => {
    await expect(plans.load(plan.digest)).rejects.toMatchObject({ code: 'PLAN_MISSING' });
  });

  it.each<[string, (text: string) => string]>([
    ['less noise than was reserved', (text) => text.replace(/"noiseMultiplier":[^,}]+/, '"noiseMultiplier":0.01')],
    ['another sampling probability', (text) => text.replace(/"samplingProbability":[^,}]+/, '"samplingProbability":1')],
    ['other data', (text) => text.replace('/nowhere/train.jsonl', '/elsewhere/train.jsonl')],
    ['a cut end', (text) => text.slice(0, -100)],
    ['a digest of its own', (text) => text.replace(plan.digest, '0'.repeat(64))],
  ])('with %s is refused, and made whole by saving it again', async (_, alter) => {
    await plans.save(plan);
    const text = await readFile(file(), 'utf8');
    expect(alter(text)).not.toBe(text);
    await writeFile(file(), alter(text));
    await expect(plans.load(plan.digest)).rejects.toMatchObject({ code: 'PLAN_ALTERED' });
    await plans.save(plan);
    expect(await plans.load(plan.digest)).toEqual(plan);
  });
});
