import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import { openLedger } from '../../privacy/ledger/index.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { entry, envelope, registration } from './ledger-fixture.ts';

describe.each(ledgerDatabases('the schema of the ledger'))('on $name', (database) => {
  beforeAll(database.setUp);
  afterAll(database.tearDown);

  test.runIf(database.name === 'PostgreSQL')('a server that may lose what it has confirmed is refused', async () => {
    const url = await database.fresh();
    vi.stubEnv('EPSILONFLOW_TEST_FSYNC_OFF', undefined);
    await expect(openLedger(url)).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      message: expect.stringContaining('runs with fsync off') as string,
    });
    vi.unstubAllEnvs();
    await (await openLedger(url)).close();
  });

  test('a ledger of a newer version is left alone', async () => {
    const url = await database.fresh();
    await (await openLedger(url)).close();
    await database.execute(url, 'update ledger_schema set version = 99');
    await expect(openLedger(url)).rejects.toMatchObject({
      code: 'LEDGER_TOO_NEW',
      message: expect.stringContaining('schema 99') as string,
    });
  });

  test('a ledger of the first version is brought up to date with all that it held', async () => {
    const url = await database.fresh();
    const ledger = await openLedger(url);
    await ledger.register([registration()]);
    await ledger.reserve(envelope('w', [entry('a'), entry('b')], 10));
    const spent = (await ledger.accountSummary('reviews'))?.experiments[0]?.epsilon;
    await ledger.close();
    // What the later migrations made is taken away again.
    const undone = [
      'drop index entries_by_account',
      ...['fixed_plan', 'whole'].map((column) => `alter table accounts drop column ${column}`),
      ...['charged', 'records', 'records_hash', 'stated_budget', 'key_fingerprint', 'ended'].map(
        (name) => `alter table entries drop column ${name}`,
      ),
      ...['entry_steps', 'ledger_secret', 'ledger_identity', 'account_rows', 'account_overlaps', 'account_names'].map(
        (table) => `drop table ${table}`,
      ),
      'alter table ledger_rows drop column private_payload',
      'create index entries_by_account on entries (account, state, workflow_id)',
      'create index entries_by_node_key on entries (node_key, state)',
      'update ledger_schema set version = 1',
    ];
    for (const statement of undone) await database.execute(url, statement);

    const [first, second] = await Promise.all([openLedger(url), openLedger(url)]);
    expect((await first.accountSummary('reviews'))?.experiments[0]?.epsilon).toBe(spent);
    expect(await second.release('w')).toBe(2);
    expect((await first.accountSummary('reviews'))?.total).toBe(0);
    await Promise.all([first.close(), second.close()]);
  });
});
