import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { filterEpsilon } from '../../privacy/ledger/admission.ts';
import { checkReceipts, ledgerSecret, openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import { fileOf, ledgerDatabases } from './ledger-databases.ts';
import { delta, entry, envelope, mechanism, proof, registration, stateDigest } from './ledger-fixture.ts';

const fixtureEvents = (n: number) => [
  { mechanism: 'poisson-gaussian', samplingProbability: 0.01, noiseMultiplier: 1, count: 1000 * n } as const,
];

/** Tight epsilon of `n` times the fixture's mechanism. */
const epsilonOf = (n: number): number => composedEpsilon(fixtureEvents(n), delta).epsilon;

/** What the filter counts of it. */
const filteredOf = (n: number): number => filterEpsilon({ events: fixtureEvents(n), unbounded: 0 }, delta);

const unbounded = { kind: 'unbounded' } as const;

describe.each(ledgerDatabases('the ledger'))('on $name', (database) => {
  let url: string;
  let ledger: Ledger;

  beforeAll(database.setUp);
  afterAll(database.tearDown);

  beforeEach(async () => {
    url = await database.fresh();
    ledger = await openLedger(url);
    await ledger.register([registration()]);
  });

  afterEach(() => ledger.close());

  const reserveOne = async (workflow = 'w', budget: number | null = 10) => {
    const [receipt] = await ledger.reserve(envelope(workflow, [entry('a')], budget));
    return receipt!;
  };

  describe('files', () => {
    test.runIf(database.name === 'SQLite')('only the owner may read ledger and secret', async () => {
      await ledgerSecret(url);
      const folder = dirname(fileOf(url));
      const mode = (path: string): number => statSync(path).mode & 0o777;
      expect(mode(folder)).toBe(0o700);
      for (const name of ['ledger.db', 'ledger.db-wal', 'dataset-secret']) expect(mode(join(folder, name))).toBe(0o600);
    });

    test('whoever asks first makes the secret, and all others get the same', async () => {
      const [secret, ...others] = await Promise.all([1, 2, 3].map(() => ledgerSecret(url)));
      expect(secret).toHaveLength(32);
      for (const other of others) expect(other).toEqual(secret);
      expect(await ledgerSecret(await database.fresh())).not.toEqual(secret);
    });

    test('entries outlive the process that wrote them', async () => {
      await reserveOne();
      await ledger.close();
      ledger = await openLedger(url);
      expect((await ledger.accountSummary('reviews'))?.reserved).toBe(epsilonOf(1));
    });

    test('another kind of URL is refused', async () => {
      await expect(openLedger('mysql://host/x')).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    });
  });

  describe('admission', () => {
    test('a whole plan is reserved at its composed cost, which is less than the sum', async () => {
      const budget = epsilonOf(3) * 1.0001;
      expect(budget).toBeLessThan(3 * epsilonOf(1));
      const receipts = await ledger.reserve(envelope('w', [entry('a'), entry('b'), entry('c')], budget));
      expect(receipts.map((receipt) => receipt.dataset)).toEqual(['reviews', 'reviews', 'reviews']);
      expect((await ledger.accountSummary('reviews'))?.total).toBe(epsilonOf(3));
    });

    test('one entry too many refuses all, says by how much, and leaves nothing behind', async () => {
      const over = envelope('w', [entry('a'), entry('b')], epsilonOf(1) * 1.001);
      await expect(ledger.reserve(over)).rejects.toMatchObject({
        code: 'BUDGET_REFUSED',
        exitCode: 3,
        message: expect.stringMatching(
          /^Dataset reviews: .* \d+\.?\d* over its budget of \d+\.\d+ at delta 0\.00001/,
        ) as string,
        hint: expect.stringContaining('ledger show reviews') as string,
      });
      expect(await ledger.accountSummary('reviews')).toBeNull();
      expect((await ledger.head()).sequence).toBe(1);
    });

    test('a second experiment is added by the Renyi filter, pessimistically', async () => {
      await reserveOne('first');
      const [quote] = await ledger.quote(envelope('second', [entry('b')], 10));
      expect(quote).toMatchObject({ rule: 'renyi-filter', admitted: true, before: epsilonOf(1), after: filteredOf(2) });
      expect(quote!.decisive).toBe(filteredOf(2));
      expect(quote!.decisive).toBeGreaterThan(epsilonOf(2));
      await expect(ledger.reserve(envelope('second', [entry('b')], epsilonOf(2)))).rejects.toMatchObject({
        code: 'BUDGET_REFUSED',
      });
    });

    test('a quote writes nothing', async () => {
      const before = await ledger.head();
      await ledger.quote(envelope('w', [entry('a')], 10));
      expect(await ledger.accounts()).toEqual([]);
      expect(await ledger.head()).toEqual(before);
    });

    test('an account with a budget admits no training without DP; one without records it', async () => {
      const open = entry('a', { mechanism: unbounded });
      await expect(ledger.reserve(envelope('w', [open], 100))).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
      await ledger.reserve(envelope('w', [open], null));
      expect(await ledger.accountSummary('reviews')).toMatchObject({ unbounded: 1, total: null, remaining: null });
    });

    test('the same data under another name spends from the same account', async () => {
      await reserveOne('first', 3);
      const alias = envelope('second', [entry('b', { dataset: 'alias' })], null, { dataset: 'alias' });
      await expect(ledger.reserve(alias)).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
      expect(await ledger.accounts()).toEqual(['reviews']);
    });

    test('other data under the same name spends from the same account', async () => {
      await reserveOne('first', 3);
      await ledger.register([registration({ digest: 'e'.repeat(64) })]);
      const appended = envelope('second', [entry('b')], 3, { digest: 'e'.repeat(64) });
      await expect(ledger.reserve(appended)).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
    });

    test('a budget can not be raised by stating a higher one, only by an entry of its own', async () => {
      await reserveOne('first', 3);
      const second = envelope('second', [entry('b')], 100);
      await expect(ledger.reserve(second)).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
      await ledger.setBudget('reviews', 100, { author: 'board', reason: 'new consent' });
      await ledger.reserve(second);
      expect((await ledger.accountSummary('reviews'))?.budget).toBe(100);
    });

    test('what was set holds until an admitted spec states less, and no refused one does', async () => {
      const budget = async (): Promise<unknown> => (await ledger.accountSummary('reviews'))?.budget;
      const why = { author: 'board', reason: 'new consent' };
      await reserveOne('first', 10);
      await expect(reserveOne('refused', 3)).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
      expect(await budget()).toBe(10);
      for (const set of [100, null]) {
        await ledger.setBudget('reviews', set, why);
        expect(await budget()).toBe(set);
        await reserveOne(`after ${set}`, 50);
        expect(await budget()).toBe(50);
      }
    });

    test('the budget of a benchmark binds only the spec that states it', async () => {
      await ledger.reserve(envelope('first', [entry('a')], 3, { benchmark: true }));
      const second = envelope('second', [entry('b')], 3, { benchmark: true });
      await expect(ledger.reserve(second)).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
      await ledger.reserve(envelope('second', [entry('b')], null, { benchmark: true }));
    });
  });

  describe('identity', () => {
    test('the same envelope twice is charged once', async () => {
      const first = await reserveOne();
      expect(await reserveOne()).toEqual(first);
      expect((await ledger.accountSummary('reviews'))?.total).toBe(epsilonOf(1));
    });

    test('another key epoch and another workflow are charges of their own', async () => {
      await ledger.reserve(envelope('w', [entry('a'), entry('a', { keyEpoch: 1 })], 20));
      await ledger.reserve(envelope('v', [entry('a')], 20));
      expect((await ledger.accountSummary('reviews'))?.total).toBe(filteredOf(3));
    });

    test('an identity that comes again with another mechanism is refused', async () => {
      await reserveOne();
      const other = entry('a', { mechanism: { ...mechanism, noiseMultiplier: 2 } });
      await expect(ledger.reserve(envelope('w', [other], 10))).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
    });

    test('a receipt is good for its own node only', async () => {
      const receipt = await reserveOne();
      const privacy = {
        dataset: 'reviews',
        targetEpsilon: 8,
        epsilon: 2,
        delta,
        accountant: 'rdp',
        mechanism,
        digest: receipt.mechanismDigest,
      } as const;
      const node = { id: 'a', key: receipt.nodeKey, privacy };
      expect(() => checkReceipts([receipt], node)).not.toThrow();
      expect(() => checkReceipts([receipt], { ...node, key: 'other' })).toThrow(/another content key/);
      expect(() => checkReceipts([receipt], { ...node, privacy: { ...privacy, digest: 'x' } })).toThrow(
        /another mechanism/,
      );
      expect(() => checkReceipts([receipt], { id: 'a', key: receipt.nodeKey })).toThrow(/not a private node/);
      await expect(ledger.begin({ ...receipt, nodeKey: 'other' }, 1, null)).rejects.toMatchObject({
        code: 'RECEIPT_INVALID',
      });
    });
  });

  describe('life of an entry', () => {
    test('a newer attempt fences the older one everywhere', async () => {
      const receipt = await reserveOne();
      const old = await ledger.begin(receipt, 1, null);
      await ledger.recordStep(receipt, old, 0, stateDigest);
      const fresh = await ledger.begin(receipt, 2, null);
      const refused = { code: 'FENCED' };
      await expect(ledger.recordStep(receipt, old, 1, stateDigest)).rejects.toMatchObject(refused);
      await expect(ledger.checkFence(receipt, old)).rejects.toMatchObject(refused);
      await expect(ledger.commit(receipt, old, proof)).rejects.toMatchObject(refused);
      await ledger.recordStep(receipt, fresh, 1, stateDigest);
      await ledger.checkFence(receipt, fresh);
      await ledger.commit(receipt, fresh, proof);
    });

    test('commit is idempotent, and a retry after it finds nothing left to do', async () => {
      const receipt = await reserveOne();
      const token = await ledger.begin(receipt, 1, null);
      await ledger.commit(receipt, token, proof);
      await ledger.commit(receipt, token, proof);
      const again = await ledger.begin(receipt, 2, null);
      expect(again.state).toBe('committed');
      await ledger.commit(receipt, again, proof);
      const entries = await ledger.committedEntries([receipt.entryId, 'another']);
      expect([...entries.keys()]).toEqual([receipt.entryId]);
      expect(entries.get(receipt.entryId)).toMatchObject({ nodeKey: receipt.nodeKey, mechanism });
      expect(await ledger.accountSummary('reviews')).toMatchObject({ committed: epsilonOf(1), reserved: 0 });
    });

    test.each([
      ['noiseMultiplier', { ...proof, noiseMultiplier: 0.9 }],
      ['steps', { ...proof, steps: 999 }],
      ['samplingProbability', { ...proof, samplingProbability: 0.02 }],
      ['clipNorm', { ...proof, clipNorm: 1 }],
      ['expectedBatchSize', { ...proof, expectedBatchSize: 99 }],
      ['arithmetic', { ...proof, arithmetic: 'float' as const }],
      ['no proof', null],
    ])('a proof with another mechanism is refused: %s', async (reason, wrong) => {
      const receipt = await reserveOne();
      const token = await ledger.begin(receipt, 1, null);
      await expect(ledger.commit(receipt, token, wrong)).rejects.toMatchObject({
        code: 'MECHANISM_MISMATCH',
        message: expect.stringContaining(reason) as string,
      });
      expect(await ledger.entryState(receipt)).toBe('begun');
    });

    test('training without DP commits without a proof', async () => {
      const [receipt] = await ledger.reserve(envelope('w', [entry('a', { mechanism: unbounded })], null));
      const token = await ledger.begin(receipt!, 1, null);
      await ledger.recordStep(receipt!, token, 5, stateDigest);
      await expect(ledger.commit(receipt!, token, proof)).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
      await ledger.commit(receipt!, token, null);
    });

    test('only entries never begun are given back, and may be reserved again', async () => {
      const plan = envelope('w', [entry('a'), entry('b'), entry('c')], 20);
      const [first, second] = await ledger.reserve(plan);
      await ledger.begin(first!, 1, null);
      expect(await ledger.release('w')).toBe(2);
      expect(await ledger.release('w')).toBe(0);
      // The tight figure covers the whole plan; only what the filter counts falls.
      expect(filteredOf(1)).toBeLessThan(epsilonOf(3));
      expect(await ledger.accountSummary('reviews')).toMatchObject({
        total: filteredOf(1),
        accountant: 'rdp',
        experiments: [{ entries: { reserved: 0, begun: 1, committed: 0, released: 2 } }],
      });
      await expect(ledger.begin(second!, 1, null)).rejects.toMatchObject({ code: 'RECEIPT_INVALID' });
      await ledger.reserve(plan);
      await ledger.begin(second!, 1, null);
      expect((await ledger.accountSummary('reviews'))?.total).toBe(epsilonOf(3));
    });
  });
});
