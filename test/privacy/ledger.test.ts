import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Database from 'libsql';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { checkReceipts, ledgerSecret, openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import { delta, entry, envelope, mechanism, proof, registration, stateDigest } from './ledger-fixture.ts';

let folder: string;
let file: string;
let url: string;
let ledger: Ledger;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ledger-'));
  file = join(folder, 'privacy-ledger', 'ledger.db');
  url = `sqlite:${file}`;
  ledger = await openLedger(url);
  await ledger.register([registration()]);
});

afterEach(async () => {
  await ledger.close();
  rmSync(folder, { recursive: true });
});

/** Epsilon of `n` times the fixture's mechanism. */
const epsilonOf = (n: number): number =>
  composedEpsilon(
    [{ mechanism: 'poisson-gaussian', samplingProbability: 0.01, noiseMultiplier: 1, count: 1000 * n }],
    delta,
  ).epsilon;

const unbounded = { kind: 'unbounded' } as const;
const reserveOne = async (workflow = 'w', budget: number | null = 10) => {
  const [receipt] = await ledger.reserve(envelope(workflow, [entry('a')], budget));
  return receipt!;
};

describe('files', () => {
  test('only the owner may read ledger and secret', () => {
    const secret = ledgerSecret(url);
    expect(secret).toHaveLength(32);
    expect(ledgerSecret(url)).toEqual(secret);
    const mode = (path: string): number => statSync(path).mode & 0o777;
    expect(mode(join(folder, 'privacy-ledger'))).toBe(0o700);
    for (const name of ['ledger.db', 'ledger.db-wal', 'dataset-secret']) {
      expect(mode(join(folder, 'privacy-ledger', name))).toBe(0o600);
    }
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
    expect((await ledger.head()).sequence).toBe(0);
  });

  test('a second experiment is added by the Renyi filter, pessimistically', async () => {
    await reserveOne('first');
    const [quote] = await ledger.quote(envelope('second', [entry('b')], 10));
    expect(quote).toMatchObject({ rule: 'renyi-filter', admitted: true, before: epsilonOf(1), after: epsilonOf(2) });
    expect(quote!.decisive).toBeGreaterThan(epsilonOf(2));
    await expect(ledger.reserve(envelope('second', [entry('b')], epsilonOf(2)))).rejects.toMatchObject({
      code: 'BUDGET_REFUSED',
    });
  });

  test('a quote writes nothing', async () => {
    await ledger.quote(envelope('w', [entry('a')], 10));
    expect(await ledger.accounts()).toEqual([]);
    expect((await ledger.head()).sequence).toBe(0);
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
    expect((await ledger.accountSummary('reviews'))?.total).toBe(epsilonOf(3));
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
    expect(() => checkReceipts([receipt], { ...node, privacy: { ...privacy, digest: 'x' } })).toThrow(/another mechanism/);
    expect(() => checkReceipts([receipt], { id: 'a', key: receipt.nodeKey })).toThrow(/not a private node/);
    await expect(ledger.begin({ ...receipt, nodeKey: 'other' }, 1)).rejects.toMatchObject({ code: 'RECEIPT_INVALID' });
  });
});

describe('life of an entry', () => {
  test('a newer attempt fences the older one everywhere', async () => {
    const receipt = await reserveOne();
    const old = await ledger.begin(receipt, 1);
    await ledger.recordStep(receipt, old, 0, stateDigest);
    const fresh = await ledger.begin(receipt, 2);
    const refused = { code: 'FENCED' };
    await expect(ledger.recordStep(receipt, old, 1, stateDigest)).rejects.toMatchObject(refused);
    await expect(ledger.checkFence(receipt, old)).rejects.toMatchObject(refused);
    await expect(ledger.commit(receipt, old, proof)).rejects.toMatchObject(refused);
    await ledger.recordStep(receipt, fresh, 1, stateDigest);
    await ledger.checkFence(receipt, fresh);
    await ledger.commit(receipt, fresh, proof);
  });

  test('the highest step is on disk before it is used and never falls', async () => {
    const receipt = await reserveOne();
    const token = await ledger.begin(receipt, 1);
    for (const step of [0, 41, 7]) await ledger.recordStep(receipt, token, step, stateDigest);
    const reader = new Database(file);
    expect(reader.prepare('select steps_started from entries').all()).toEqual([{ steps_started: 42 }]);
    reader.close();
    await expect(ledger.recordStep(receipt, token, 1001, stateDigest)).rejects.toMatchObject({
      code: 'RECEIPT_INVALID',
    });
  });

  test('commit is idempotent, and a retry after it finds nothing left to do', async () => {
    const receipt = await reserveOne();
    const token = await ledger.begin(receipt, 1);
    await ledger.commit(receipt, token, proof);
    await ledger.commit(receipt, token, proof);
    const again = await ledger.begin(receipt, 2);
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
    ['no proof', null],
  ])('a proof with another mechanism is refused: %s', async (reason, wrong) => {
    const receipt = await reserveOne();
    const token = await ledger.begin(receipt, 1);
    await expect(ledger.commit(receipt, token, wrong)).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
      message: expect.stringContaining(reason) as string,
    });
    expect(await ledger.entryState(receipt)).toBe('begun');
  });

  test('training without DP commits without a proof', async () => {
    const [receipt] = await ledger.reserve(envelope('w', [entry('a', { mechanism: unbounded })], null));
    const token = await ledger.begin(receipt!, 1);
    await ledger.recordStep(receipt!, token, 5, stateDigest);
    await expect(ledger.commit(receipt!, token, proof)).rejects.toMatchObject({ code: 'MECHANISM_MISMATCH' });
    await ledger.commit(receipt!, token, null);
  });

  test('only entries never begun are given back, and may be reserved again', async () => {
    const plan = envelope('w', [entry('a'), entry('b'), entry('c')], 20);
    const [first, second] = await ledger.reserve(plan);
    await ledger.begin(first!, 1);
    expect(await ledger.release('w')).toBe(2);
    expect(await ledger.release('w')).toBe(0);
    expect(await ledger.accountSummary('reviews')).toMatchObject({
      total: epsilonOf(1),
      experiments: [{ entries: { reserved: 0, begun: 1, committed: 0, released: 2 } }],
    });
    await expect(ledger.begin(second!, 1)).rejects.toMatchObject({ code: 'RECEIPT_INVALID' });
    await ledger.reserve(plan);
    await ledger.begin(second!, 1);
    expect((await ledger.accountSummary('reviews'))?.total).toBe(epsilonOf(3));
  });
});

describe('chain', () => {
  const damage = async (statement: string): Promise<void> => {
    await reserveOne('first');
    await reserveOne('second');
    expect(await ledger.verify()).toEqual({ rows: 4 });
    await ledger.close();
    const writer = new Database(file);
    writer.exec(statement);
    writer.close();
    ledger = await openLedger(url);
  };

  test.each([
    [
      'a changed byte',
      "update ledger_rows set payload = replace(payload, '1000', '1001') where sequence = 3",
      'row 3 was',
    ],
    ['a deleted row', 'delete from ledger_rows where sequence = 2', 'row 2 is missing'],
    ['a cut end', 'delete from ledger_rows where sequence = 4', 'after 3'],
    [
      'reordered rows',
      'update ledger_rows set sequence = -3 where sequence = 3; update ledger_rows set sequence = 3 where sequence = 4; update ledger_rows set sequence = 4 where sequence = -3',
      'row 3 does not follow',
    ],
  ])('%s is found and named', async (_, statement, named) => {
    await damage(statement);
    await expect(ledger.verify()).rejects.toMatchObject({
      code: 'LEDGER_CORRUPT',
      message: expect.stringContaining(named) as string,
    });
  });
});
