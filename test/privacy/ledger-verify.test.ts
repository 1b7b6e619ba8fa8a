import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { chainRow, genesis, type ChainedRow, type LedgerFact } from '../../privacy/ledger/chain.ts';
import { openLedger, type Ledger } from '../../privacy/ledger/index.ts';
import { emptyState, replayRow } from '../../privacy/ledger/replay.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { entry, envelope, mechanism, proof, registration, stateDigest } from './ledger-fixture.ts';

describe('replay', () => {
  const replay = (...facts: LedgerFact[]): string | null => {
    const state = emptyState();
    let head = genesis;
    let fault: string | null = null;
    for (const fact of facts) {
      const row = chainRow(head, fact, '2026-01-01T00:00:00.000Z');
      head = row;
      fault ??= replayRow(state, row);
    }
    return fault;
  };
  const opened: LedgerFact = { kind: 'account', account: 'a', entryId: null, payload: { delta: 1e-5, budget: 3 } };

  test.each([
    ['a budget before its account', [{ ...opened, kind: 'budget' }], 'row 1 speaks of an account'],
    [
      'a commit of what was never reserved',
      [opened, { ...opened, kind: 'committed', entryId: 'e' }],
      'row 2 speaks of',
    ],
    ['a kind that nobody knows', [{ ...opened, kind: 'spent' as 'begun' }], 'row 1 is of the unknown kind spent'],
  ] satisfies [string, LedgerFact[], string][])('names %s', (_, facts, fault) => {
    expect(replay(...facts)).toContain(fault);
  });

  const of = (kind: LedgerFact['kind'], payload: Record<string, unknown>): LedgerFact => ({
    ...{ kind, account: 'a', entryId: 'e', payload: payload as LedgerFact['payload'] },
  });
  const reserved = of('reserved', {
    ...{ workflowId: 'w', nodeKey: 'k', mechanism, mechanismDigest: 'm', charged: 1000, admittedBy: 'renyi-filter' },
  });
  const tight = { ...reserved, payload: { ...(reserved.payload as object), admittedBy: 'fixed-plan' } };
  const changed = (row: LedgerFact, change: object): LedgerFact => ({
    ...row,
    payload: { ...(row.payload as object), ...change },
  });
  const unbounded = changed(reserved, { mechanism: { kind: 'unbounded' }, charged: 1 });
  const begun = of('begun', { token: 1, records: 0, recordsHash: '' });
  const stopped = of('ended', { token: 2, records: 4, recordsHash: 'h' });
  const reduced = of('reduced', { token: 2, charged: 4, records: 4, recordsHash: 'h' });
  const committed = of('committed', { token: 1, proof, charged: 1000, records: 4, recordsHash: 'h' });

  test.each([
    ['a committed entry', [opened, reserved, begun, committed]],
    [
      'what is given back and taken up again',
      [opened, reserved, begun, stopped, reduced, of('extended', { charged: 1000 })],
    ],
    [
      'what an account that keeps all keeps',
      [opened, tight, { ...tight, entryId: 'f' }, begun, { ...of('released', { charged: 1000 }), entryId: 'f' }],
    ],
    ['a plan that never began', [opened, tight, of('released', { charged: 0 })]],
    [
      'what began and used no noise',
      [opened, reserved, begun, changed(stopped, { records: 0 }), changed(reduced, { charged: 0, records: 0 })],
    ],
  ] satisfies [string, LedgerFact[]][])('takes %s', (_, facts) => {
    expect(replay(...facts)).toBeNull();
  });

  test.each([
    ['a reservation for less', [opened, changed(reserved, { charged: 1 })], 'row 2 charges 1 of the 1000 applications'],
    ['a charge that is no number', [opened, changed(reserved, { charged: '2000' })], 'row 2 charges 2000, which is no'],
    [
      'a commit for less',
      [opened, reserved, begun, changed(committed, { charged: 999 })],
      'row 4 charges 999 of the 1000',
    ],
    [
      'a commit that forgets repeated steps',
      [opened, reserved, begun, of('extended', { charged: 1001 }), committed],
      'row 5 charges 1000 in place of 1001',
    ],
    [
      'an attempt that lowers the charge',
      [opened, reserved, changed(begun, { charged: 0 })],
      'row 3 charges 0 in place',
    ],
    [
      'an extension that lowers the charge',
      [opened, reserved, begun, of('extended', { charged: 10 })],
      'row 4 charges 10 in place of 1000',
    ],
    [
      'a reduction that raises the charge',
      [opened, reserved, begun, stopped, changed(reduced, { charged: 1001 })],
      'row 5 charges 1001 in place of 1000',
    ],
    [
      'a reduction below the records',
      [opened, reserved, begun, stopped, changed(reduced, { charged: 3 })],
      'row 5 charges 3, fewer than its 4 step records',
    ],
    [
      'a reduction of what has no bound',
      [
        opened,
        unbounded,
        begun,
        changed(stopped, { records: 0 }),
        of('reduced', { token: 2, charged: 0, records: 0, recordsHash: '' }),
      ],
      'row 5 gives back steps that nobody counts',
    ],
    [
      'a reduction where the account keeps all',
      [opened, tight, begun, stopped, reduced],
      'row 5 gives back what its account keeps',
    ],
    [
      'a release that keeps what it may not',
      [opened, reserved, of('released', { charged: 5 })],
      'row 3 charges 5 in place',
    ],
    [
      'a release of what the account keeps',
      [opened, tight, { ...tight, entryId: 'f' }, begun, { ...of('released', { charged: 0 }), entryId: 'f' }],
      'row 5 charges 0 in place of 1000, what its account keeps is 1000',
    ],
    [
      'a digest of two mechanisms',
      [opened, reserved, { ...changed(reserved, { mechanism: { ...mechanism, steps: 5 } }), entryId: 'f' }],
      'row 3 reserves another mechanism than its digest names',
    ],
    [
      'another mechanism in place of one that was released',
      [opened, reserved, of('released', { charged: 0 }), changed(reserved, { mechanismDigest: 'n' })],
      'row 4 reserves another mechanism',
    ],
    ['no mechanism', [opened, changed(reserved, { mechanism: { kind: 'none' } })], 'row 2 reserves no mechanism'],
    ['another account', [opened, reserved, { ...begun, account: 'b' }], 'row 3 charges an entry of account a to b'],
    [
      'data that change their account',
      [
        { ...opened, kind: 'digest', payload: { digest: 'd' } },
        { ...opened, kind: 'digest', account: 'b', payload: { digest: 'd' } },
      ],
      'row 2 moves the data of account a to b',
    ],
    ['a payload that is no object', [{ ...opened, payload: 'x' }], 'row 1 holds no JSON object'],
  ] satisfies [string, LedgerFact[], string][])('names %s', (_, facts, fault) => {
    expect(replay(...facts)).toContain(fault);
  });
});

describe.each(ledgerDatabases('verification of the ledger'))('on $name', (database) => {
  let url: string;
  let ledger: Ledger;

  beforeAll(database.setUp);
  afterAll(database.tearDown);

  /** Rows: 1 digest, 2 account, 3-5 reserved, 6 begun, 7 committed, 8 released, 9 budget, 10 begun. */
  beforeEach(async () => {
    url = await database.fresh();
    ledger = await openLedger(url);
    await ledger.register([registration()]);
    const [first] = await ledger.reserve(envelope('w', [entry('a'), entry('b')], 10));
    const [other] = await ledger.reserve(envelope('v', [entry('c')], 10));
    const token = await ledger.begin(first!, 1, null);
    for (let step = 0; step < 4; step += 1) await ledger.recordStep(first!, token, step, stateDigest, 20 + step);
    await ledger.commit(first!, token, proof);
    await ledger.release('w');
    await ledger.setBudget('reviews', 20, { author: 'board', reason: 'new consent' });
    await ledger.recordStep(other!, await ledger.begin(other!, 1, null), 0, stateDigest);
    expect(await ledger.verify()).toEqual({ rows: 10, unsealed: 0 });
  });

  afterEach(() => ledger.close());

  const entryA = "(select id from entries where node_id = 'a')";
  const swapped = [
    'update ledger_rows set sequence = -3 where sequence = 3',
    'update ledger_rows set sequence = 3 where sequence = 4',
    'update ledger_rows set sequence = 4 where sequence = -3',
  ].join('; ');

  test.each([
    [
      'a flipped byte',
      "update ledger_rows set payload = replace(payload, '1000', '1001') where sequence = 3",
      'row 3 was',
    ],
    [
      'a flipped byte of a hash',
      "update ledger_rows set hash = (case when substr(hash, 1, 1) = 'f' then '0' else 'f' end) || substr(hash, 2) where sequence = 5",
      'row 5 was',
    ],
    [
      'another private payload',
      "update ledger_rows set private_payload = replace(private_payload, 'w', 'v') where sequence = 3",
      'row 3 has another private payload than it names',
    ],
    [
      'a deleted private payload',
      'update ledger_rows set private_payload = null where sequence = 6',
      'row 6 lacks its private payload',
    ],
    [
      'a private payload that nobody named',
      "update ledger_rows set private_payload = '{}' where sequence = 9",
      'row 9 names no private payload, and has one',
    ],
    [
      'another batch size',
      'update entry_steps set batch_size = 99 where batch_size = 22',
      'have another batch size at number 3 than was committed',
    ],
    ['a deleted row', 'delete from ledger_rows where sequence = 6', 'row 6 is missing'],
    ['reordered rows', swapped, 'row 3 does not follow'],
    ['a cut end', 'delete from ledger_rows where sequence > 8', 'rows after 8 are missing'],
    [
      'a cut end with its head',
      'delete from ledger_rows where sequence > 8; update ledger_head set sequence = 8, hash = (select hash from ledger_rows where sequence = 8)',
      'account reviews was changed: budget is 20, its rows say 10',
    ],
    ['a head set back', 'update ledger_head set sequence = 9', 'its newest row is not the one'],
    ['a sum set to zero', 'update holdings set count = 0', 'was changed: count is 0, its rows say 2000'],
    ['a deleted sum', 'delete from holdings', 'sum of account reviews'],
    ['another budget', 'update accounts set budget = 99', 'account reviews was changed: budget is 99, its rows say 20'],
    ['another delta', 'update accounts set delta = 0.01', 'account reviews was changed: delta'],
    ['a plan that gives back what it must keep', 'update accounts set whole = 1', 'account reviews was changed: whole'],
    ['a digest of another account', "update account_digests set account = 'x'", 'dataset digest'],
    ['a deleted entry', "delete from entries where node_id = 'a'", 'is missing'],
    [
      'an entry that nobody reserved',
      `insert into entries select 'f', account, workflow_id, experiment, plan_digest, node_id, node_key, key_epoch, mechanism, mechanism_digest, state, fence, steps_started, proof, changed_at, charged, records, records_hash, stated_budget, key_fingerprint, ended from entries where node_id = 'b'`,
      'entry f is in no row',
    ],
    [
      'an entry set free',
      "update entries set state = 'released', charged = 0 where node_id = 'c'",
      'was changed: state is released, its rows say begun',
    ],
    [
      'a charge made less',
      "update entries set charged = 999 where node_id = 'a'",
      'was changed: charged is 999, its rows say 1000',
    ],
    ['a fence set back', "update entries set fence = 0 where node_id = 'a'", 'was changed: fence'],
    [
      'another key',
      `update entries set key_fingerprint = 'x' where node_id = 'a'`,
      'was changed: key_fingerprint is x',
    ],
    [
      'an end of its run',
      `update entries set ended = 1 where node_id = 'c'`,
      'was changed: ended is 1, its rows say 0',
    ],
    [
      'a deleted step',
      `delete from entry_steps where entry_id = ${entryA} and step = 3`,
      '(a) are fewer than row 7 says',
    ],
    [
      'a deleted step in between',
      `delete from entry_steps where entry_id = ${entryA} and step = 1`,
      '(a) lack number 2',
    ],
    [
      'a changed step',
      `update entry_steps set digest = 'x' where entry_id = ${entryA} and step = 2`,
      '(a) up to number 4 are not those of row 7',
    ],
    [
      'a step of nobody',
      "insert into entry_steps (entry_id, ordinal, step, digest) values ('nobody', 1, 0, 'x')",
      'there are 6 step records, entries have 5',
    ],
    [
      'a step changed after the last row',
      `update entry_steps set digest = 'x' where entry_id <> ${entryA}`,
      '(c) were changed after row 10',
    ],
  ])('%s is found and named', async (_, statement, named) => {
    await database.execute(url, statement);
    await expect(ledger.verify()).rejects.toMatchObject({
      code: 'LEDGER_CORRUPT',
      message: expect.stringContaining(named) as string,
    });
  });

  test('a mechanism digest of other data or of another delta reserves nothing', async () => {
    const planned = envelope('u', [entry('a')], 30);
    const [account] = planned.accounts;
    await expect(ledger.reserve({ ...planned, accounts: [{ ...account!, delta: 1e-6 }] })).rejects.toMatchObject({
      code: 'MECHANISM_MISMATCH',
      message: expect.stringContaining('not that of its mechanism, data and delta') as string,
    });
  });

  /** Chains all rows anew, so that no hash tells of the change. */
  async function forge(change: (row: ChainedRow) => LedgerFact['payload']): Promise<void> {
    let head = genesis;
    const statements: string[] = [];
    for (const row of await database.execute(url, 'select * from ledger_rows order by sequence')) {
      const { sequence, kind, account, entry_id, time, payload } = row as Record<string, string>;
      const fact = { kind: kind as LedgerFact['kind'], account: account!, entryId: entry_id ?? null };
      const forged = change({ ...fact, sequence: Number(sequence), payload: payload! } as ChainedRow);
      const next = chainRow(head, { ...fact, payload: forged }, time!);
      head = next;
      statements.push(
        `update ledger_rows set payload = '${next.payload}', previous_hash = '${next.previousHash}', ` +
          `hash = '${next.hash}' where sequence = ${next.sequence}`,
      );
    }
    statements.push(`update ledger_head set hash = '${head.hash}'`);
    await database.execute(url, statements.join('; '));
  }

  const parse = ({ payload }: ChainedRow): Record<string, unknown> => JSON.parse(payload) as Record<string, unknown>;

  /** Changes what reservations say of their data, from the row of this number on. */
  const forgeData = (change: object | null, from = 0): Promise<void> =>
    forge((row) => {
      const { data, ...rest } = parse(row);
      if (row.kind !== 'reserved' || row.sequence < from) return parse(row) as LedgerFact['payload'];
      return (change === null ? rest : { ...rest, data: { ...(data as object), ...change } }) as LedgerFact['payload'];
    });

  test.each([
    ['another delta', { delta: 1e-4 }, 'row 3 names mechanism digest'],
    ['other data', { digest: 'e'.repeat(64) }, 'row 3 names mechanism digest'],
    ['another dataset', { dataset: 'others' }, 'row 3 reserves an entry whose id is not that of'],
  ])('a reservation for %s is found in a ledger that was chained anew', async (_, change, named) => {
    await forgeData(change);
    await expect(ledger.verify()).rejects.toMatchObject({
      code: 'LEDGER_CORRUPT',
      message: expect.stringContaining(named) as string,
    });
  });

  test('reservations of older versions name no data and hold as before; none come after one that does', async () => {
    await forgeData(null);
    expect(await ledger.verify()).toEqual({ rows: 10, unsealed: 3 });
    await ledger.reserve(envelope('w', [entry('b')], 10));
    expect(await ledger.verify()).toEqual({ rows: 12, unsealed: 3 });
  });

  test('a reservation that names its data no more, after others that do, is found', async () => {
    await forgeData(null, 5);
    await expect(ledger.verify()).rejects.toMatchObject({
      code: 'LEDGER_CORRUPT',
      message: expect.stringContaining('row 5 does not name the data of its mechanism') as string,
    });
  });

  test('a whole ledger that was chained anew to charge less is found', async () => {
    await forge((row) => parse(row) as LedgerFact['payload']);
    expect(await ledger.verify()).toEqual({ rows: 10, unsealed: 0 });
    await forge((row) => {
      const payload = parse(row);
      const isLess = row.kind === 'reserved' || row.kind === 'committed';
      return (isLess ? { ...payload, charged: 4 } : payload) as LedgerFact['payload'];
    });
    await database.execute(
      url,
      "update entries set charged = 4 where state <> 'released'; update holdings set count = 8",
    );
    await expect(ledger.verify()).rejects.toMatchObject({
      code: 'LEDGER_CORRUPT',
      message: expect.stringContaining('row 3 charges 4 of the 1000 applications of its mechanism') as string,
    });
  });
});
