import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { JobContext, JobInput } from '../../activities/job.ts';
import { testCounts } from '../../activities/test-counts.ts';
import { wilsonInterval } from '../../measures/index.ts';
import { proofDifference } from '../../privacy/ledger/refusals.ts';
import type { PlanDataset, PlanNode } from '../../schemas/plan.ts';

const mechanism = { kind: 'discrete-laplace', scale: 10, sensitivity: 1 } as const;
const exact = [
  [480, 20],
  [40, 460],
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'test counts '));
  writeFileSync(join(folder, 'key'), Buffer.alloc(32, 5));
});
afterAll(() => rmSync(folder, { recursive: true }));

const dataset = (sensitivity: PlanDataset['sensitivity']): PlanDataset =>
  ({ name: 'people', sensitivity }) as PlanDataset;

const inputFor = (node: Partial<PlanNode>): JobInput<'train-classifier'> =>
  ({
    node: { id: 'classifier', key: 'k', waivers: [], ...node },
    noiseKeyFile: join(folder, 'key'),
  }) as unknown as JobInput<'train-classifier'>;

const releasing = (): JobInput<'train-classifier'> =>
  inputFor({ release: { mechanism } as unknown as NonNullable<PlanNode['release']> });

function recording(): JobContext & { announced: unknown[][] } {
  const announced: unknown[][] = [];
  return {
    announced,
    announceStep: async (...call: unknown[]) => void announced.push(call),
  } as unknown as JobContext & {
    announced: unknown[][];
  };
}

describe('test counts', () => {
  it('of a benchmark are exact', async () => {
    const { confusion, metrics, releaseProof } = await testCounts(
      inputFor({}),
      recording(),
      dataset('benchmark'),
      exact,
    );
    expect([confusion, releaseProof]).toEqual([exact, undefined]);
    expect(metrics).toMatchObject({ accuracy: 0.94, testRecords: 1000 });
    expect(metrics).not.toHaveProperty('accuracyLow');
  });

  it('of a private split have noise, which is announced before it is drawn and proved afterwards', async () => {
    const context = recording();
    const { confusion, metrics, releaseProof } = await testCounts(releasing(), context, dataset('private'), exact);
    expect(context.announced).toEqual([[0, expect.stringMatching(/^[0-9a-f]{64}$/), 'release', null]]);
    expect(confusion).not.toEqual(exact);
    const total = confusion.flat().reduce((a, b) => a + b);
    expect(metrics['testRecords']).toBe(total);
    expect(metrics['accuracy']).toBe((confusion[0]![0]! + confusion[1]![1]!) / total);
    const wilson = wilsonInterval(metrics['accuracy']!, total);
    expect(metrics['accuracyLow']).toBeLessThan(wilson.low);
    expect(metrics['accuracyHigh']).toBeGreaterThan(wilson.high);
    expect(proofDifference(mechanism, releaseProof!)).toBeNull();
    expect(proofDifference({ ...mechanism, scale: 20 }, releaseProof!)).toMatch(/scale 10 instead of 20/);
  });

  it('repeat for the same table, and get other noise for another one', async () => {
    const noise = async (table: number[][]): Promise<number[]> => {
      const { confusion } = await testCounts(releasing(), recording(), dataset('private'), table);
      return confusion.flatMap((row, i) => row.map((count, j) => count - table[i]![j]!));
    };
    expect(await noise(exact)).toEqual(await noise(exact));
    // Equal noise on two tables would tell their difference exactly.
    expect(await noise([[481, 20], exact[1]!])).not.toEqual(await noise(exact));
  });

  it('of a private split are not made without a release or the waiver', async () => {
    const refused = testCounts(inputFor({}), recording(), dataset('private'), exact);
    await expect(refused).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
    const waived = inputFor({ waivers: ['test-metrics'] });
    expect((await testCounts(waived, recording(), dataset('private'), exact)).confusion).toEqual(exact);
  });
});
