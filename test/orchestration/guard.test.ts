import { describe, expect, it } from 'vitest';
import type { PlannedNode, StepReceipt } from '../../activities/contract.ts';
import { acceptReceipts, admit, createGuard, type Guard } from '../../workflows/guard.ts';

const node = (id: string, key = `key-${id}`, mechanismDigest = `mechanism-${id}`): PlannedNode => ({
  id,
  slug: id,
  kind: 'finetune',
  key,
  needs: [],
  charges: [{ dataset: 'reviews', mechanismDigest }],
});

const receipt = (id: string, changes: Partial<StepReceipt> = {}): StepReceipt => ({
  entryId: `entry-${id}`,
  workflowId: 'reviews/1-ab',
  dataset: 'reviews',
  nodeKey: `key-${id}`,
  mechanismDigest: `mechanism-${id}`,
  ...changes,
});

const a = node('a');
const b = node('b');

function guardWith(...receipts: StepReceipt[]): Guard {
  const accepted = acceptReceipts(createGuard([a, b]), 'reviews/1-ab', receipts);
  if (!accepted.accepted) throw new Error(accepted.reason);
  return accepted.guard;
}

const refusal = (...receipts: StepReceipt[]): string => {
  const answer = acceptReceipts(createGuard([a, b]), 'reviews/1-ab', receipts);
  return answer.accepted ? 'accepted' : answer.reason;
};

describe('the guard', () => {
  it('admits a planned private node with its receipt, once', () => {
    const first = admit(guardWith(receipt('a'), receipt('b')), a);
    expect(first).toMatchObject({ admitted: true, receipts: [{ entryId: 'entry-a' }] });
    if (!first.admitted) return;
    expect(admit(first.guard, a)).toEqual({ admitted: false, reason: 'the receipt of a for reviews was used before' });
    expect(admit(first.guard, b).admitted).toBe(true);
  });

  it('admits nothing without a receipt', () => {
    expect(admit(guardWith(receipt('b')), a)).toEqual({
      admitted: false,
      reason: 'a has no receipt of the ledger for reviews',
    });
  });

  it('admits no node that the plan does not hold, even with the content key of one that it does', () => {
    const guard = guardWith(receipt('a'));
    expect(admit(guard, node('c')).admitted).toBe(false);
    expect(admit(guard, node('c', 'key-a')).admitted).toBe(false);
  });

  it('refuses receipts that were given out for something else', () => {
    expect(refusal(receipt('a', { mechanismDigest: 'weaker' }))).toMatch(/another mechanism/);
    expect(refusal(receipt('a', { workflowId: 'reviews/2-cd' }))).toMatch(/belongs to reviews\/2-cd/);
    expect(refusal(receipt('a', { dataset: 'mails' }))).toMatch(/dataset mails/);
    expect(refusal(receipt('a', { nodeKey: 'key-z' }))).toMatch(/no private node of this plan/);
    expect(refusal(receipt('a'), receipt('a', { entryId: 'entry-other' }))).toMatch(/repeats/);
  });

  it('counts a receipt as used even when it stands in for the node of another entry', () => {
    // A ledger that gave one entry to two nodes would charge once for two releases.
    const guard = guardWith(receipt('a'), receipt('b', { entryId: 'entry-a' }));
    const first = admit(guard, a);
    expect(first.admitted).toBe(true);
    expect(admit(first.admitted ? first.guard : guard, b).admitted).toBe(false);
  });

  describe('of a node with two charges', () => {
    const both: PlannedNode = {
      ...node('c'),
      charges: [
        { dataset: 'reviews', mechanismDigest: 'training' },
        { dataset: 'reviews/test', mechanismDigest: 'release' },
      ],
    };
    const training = receipt('c', { entryId: 'entry-training', mechanismDigest: 'training' });
    const release = receipt('c', { entryId: 'entry-release', mechanismDigest: 'release', dataset: 'reviews/test' });
    const accept = (...receipts: StepReceipt[]) => acceptReceipts(createGuard([both]), 'reviews/1-ab', receipts);
    const guarded = (...receipts: StepReceipt[]): Guard => {
      const accepted = accept(...receipts);
      if (!accepted.accepted) throw new Error(accepted.reason);
      return accepted.guard;
    };

    it('admits it with a receipt for each, in the order of the charges, once', () => {
      const guard = guarded(release, training);
      expect(admit(guard, both)).toMatchObject({ admitted: true, receipts: [training, release] });
      expect(admit(guard, both).admitted).toBe(false);
    });

    it('does not admit it with one of them, and uses none up', () => {
      const guard = guarded(training);
      expect(admit(guard, both)).toEqual({
        admitted: false,
        reason: 'c has no receipt of the ledger for reviews/test',
      });
      expect(guard.used.size).toBe(0);
    });

    it('refuses a receipt whose account and mechanism belong to different charges, and one for both', () => {
      expect(accept({ ...training, dataset: 'reviews/test' })).toMatchObject({ accepted: false });
      const shared = guarded(training, { ...release, entryId: training.entryId });
      expect(admit(shared, both).admitted).toBe(false);
    });
  });
});
