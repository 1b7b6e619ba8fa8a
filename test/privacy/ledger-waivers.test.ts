import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { openLedger, type Ledger, type PlanWaiver } from '../../privacy/ledger/index.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { delta, entry, envelope, registration } from './ledger-fixture.ts';

const digest = 'd'.repeat(64);
const account = { dataset: 'reviews', digest, delta, budget: { epsilon: 5 } };
const waived = (change: Partial<PlanWaiver> = {}): PlanWaiver => ({
  ...{ waiver: 'test-metrics', reason: 'cleared by the board', experiment: 'films', planDigest: '1'.repeat(64) },
  accounts: [account],
  ...change,
});

describe.each(ledgerDatabases('waivers in the ledger'))('on $name', (database) => {
  let url: string;
  let ledger: Ledger;

  beforeAll(database.setUp);
  afterAll(database.tearDown);
  beforeEach(async () => {
    url = await database.fresh();
    ledger = await openLedger(url);
  });
  afterEach(() => ledger.close());

  test('stay on the account beside what later plans spend there, and no figure counts them', async () => {
    await ledger.register([registration()]);
    await ledger.recordWaiver(waived());
    await ledger.recordWaiver(waived({ planDigest: '2'.repeat(64), experiment: 'plays', reason: 'only once' }));
    await ledger.reserve(envelope('w', [entry('a')], 5));
    const summary = (await ledger.accountSummary('reviews'))!;
    expect(summary.waivers).toEqual([
      {
        waiver: 'test-metrics',
        reason: 'cleared by the board',
        row: 3,
        experiment: 'films',
        planDigest: '1'.repeat(64),
      },
      { waiver: 'test-metrics', reason: 'only once', row: 4, experiment: 'plays', planDigest: '2'.repeat(64) },
    ]);
    expect(summary).toMatchObject({ budget: 5, unbounded: 0, experiments: [{ workflowId: 'w' }] });
    expect(summary.total).toBeLessThan(5);
    expect(await ledger.verify()).toEqual({ rows: 5, unsealed: 0 });
  });

  test('of one plan are one row, however often it starts', async () => {
    await ledger.register([registration()]);
    await ledger.recordWaiver(waived());
    const head = await ledger.head();
    await ledger.recordWaiver(waived());
    expect(await ledger.head()).toEqual(head);
  });

  test('need data that are registered', async () => {
    await expect(ledger.recordWaiver(waived())).rejects.toMatchObject({ code: 'DATASET_UNREGISTERED' });
    expect(await ledger.accounts()).toEqual([]);
  });

  test('tell those who get evidence what was waived and why, not by whom', async () => {
    await ledger.register([registration()]);
    await ledger.recordWaiver(waived());
    const [receipt] = await ledger.reserve(envelope('w', [entry('a')], 5));
    const [row] = (await ledger.rowsBehind('w', [receipt!.entryId])).filter(({ kind }) => kind === 'waived');
    expect(JSON.parse(row!.payload)).toEqual({
      ...{ waiver: 'test-metrics', reason: 'cleared by the board' },
      privateDigest: expect.any(String) as string,
    });
    expect(JSON.stringify(row)).not.toMatch(/films|1{64}/);
  });

  test.each([
    ['a deleted row', "delete from ledger_rows where kind = 'waived'", 'row 3 is missing'],
    [
      'another reason',
      "update ledger_rows set payload = replace(payload, 'cleared', 'refused') where kind = 'waived'",
      'row 3 was changed',
    ],
    [
      'another owner',
      "update ledger_rows set private_payload = '{}' where kind = 'waived'",
      'row 3 has another private',
    ],
  ])('%s is found', async (_, statement, named) => {
    await ledger.register([registration()]);
    await ledger.recordWaiver(waived());
    await ledger.setBudget('reviews', 4, { author: 'board', reason: 'a row after it' });
    await database.execute(url, statement);
    await expect(ledger.verify()).rejects.toMatchObject({
      code: 'LEDGER_CORRUPT',
      message: expect.stringContaining(named) as string,
    });
  });

  test('a ledger from before is read as it was, and older versions leave it alone from then on', async () => {
    await ledger.register([registration()]);
    await ledger.reserve(envelope('w', [entry('a')], 5));
    const before = await ledger.accountSummary('reviews');
    await ledger.close();
    await database.execute(url, 'update ledger_schema set version = 8');
    ledger = await openLedger(url);
    expect(await ledger.accountSummary('reviews')).toEqual(before);
    expect(before!.waivers).toEqual([]);
    expect(await ledger.verify()).toBeTruthy();
    const [{ version }] = (await database.execute(url, 'select version from ledger_schema')) as [{ version: number }];
    expect(version).toBe(9);
  });
});
