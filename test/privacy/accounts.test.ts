import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import {
  headOf,
  openLedger,
  type DatasetRegistration,
  type Envelope,
  type Ledger,
  type PublicData,
} from '../../privacy/ledger/index.ts';
import { overlaps, publicRowsOf, rowsOf, sharedRows } from '../../privacy/ledger/rows.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { entry, envelope, registration } from './ledger-fixture.ts';

const secret = Buffer.alloc(32, 3);
const why = { author: 'board', reason: 'looked at both' };

const texts = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, row) => `record number ${from + row}`);

let digests = 0;
/** Data that the ledger has not seen in this form: every version has a digest of its own. */
function data(dataset: string, rows: readonly string[], change: Partial<DatasetRegistration> = {}) {
  digests += 1;
  const digest = digests.toString(16).padStart(64, '0');
  return registration({ dataset, digest, rows: rowsOf(rows, secret), ...change });
}

describe('rows', () => {
  test('neither order nor repetition nor line ends nor labels make other records', () => {
    const rows = rowsOf(['one\r\ntwo', 'three', 'three', 'caf\u00e9'], secret);
    expect(rowsOf(['cafe\u0301', ' three', 'one\ntwo\n'], secret)).toEqual(rows);
    expect(rows.hashes).toHaveLength(3);
  });

  test('empty records are none', () => {
    expect(rowsOf(['', ' ', '\n\t'], secret).hashes).toHaveLength(0);
  });

  test('another secret gives hashes that share nothing', () => {
    const [a, b] = [secret, Buffer.alloc(32, 4)].map((key) => rowsOf(texts(0, 1000), key));
    expect(a!.key).not.toBe(b!.key);
    expect(sharedRows(a!.hashes, b!.hashes)).toBe(0);
  });

  test.each([
    [1000, 1000, 2, 0, false],
    [1000, 1000, 3, 0, true],
    [50_000, 10_000, 10, 0, false],
    [50_000, 10_000, 11, 0, true],
    [1_000_000, 1_000_000, 101, 0, true],
    [1000, 2, 2, 0, true],
    [1000, 0, 0, 0, false],
    [1000, 1000, 500, 498, false],
    [1000, 1000, 501, 498, true],
  ])('of %d and %d rows %d shared, %d of them acknowledged: overlap is %s', (a, b, shared, known, expected) => {
    expect(overlaps(a, b, shared, known)).toBe(expected);
    expect(overlaps(b, a, shared, known)).toBe(expected);
  });
});

describe.each(ledgerDatabases('accounts of the ledger'))('on $name', (database) => {
  let url: string;
  let ledger: Ledger;

  beforeAll(database.setUp);
  afterAll(database.tearDown);

  beforeEach(async () => {
    url = await database.fresh();
    ledger = await openLedger(url);
  });

  afterEach(() => ledger.close());

  async function spend(of: DatasetRegistration, workflow: string, budget = 3): Promise<void> {
    const { dataset, digest, benchmark } = of;
    await ledger.reserve(envelope(workflow, [entry(workflow, { dataset })], budget, { dataset, digest, benchmark }));
  }

  describe('one account', () => {
    test.each([
      ['an appended row', [...texts(0, 500), 'one more']],
      ['other order', texts(0, 500).reverse()],
      ['a removed row', texts(1, 500)],
      ['no row in common', texts(500, 900)],
    ])('a new version with %s goes on spending where the first one did', async (_, rows) => {
      const first = data('reviews', texts(0, 500));
      const second = data('reviews', rows);
      await ledger.register([first]);
      await spend(first, 'first');
      expect(await ledger.register([second])).toMatchObject([{ account: 'reviews', isNew: true }]);
      await expect(spend(second, 'second')).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
    });

    test('a renamed part of the data is still of its account', async () => {
      const first = data('reviews', texts(0, 500));
      const part = data('opinions', texts(100, 300));
      await ledger.register([first]);
      await spend(first, 'first');
      expect(await ledger.register([part])).toMatchObject([{ dataset: 'opinions', account: 'reviews' }]);
      await expect(spend(part, 'second')).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
      expect(await ledger.accounts()).toEqual(['reviews']);
    });

    test('registering again writes nothing', async () => {
      const first = data('reviews', texts(0, 50));
      await ledger.register([first]);
      const before = await ledger.head();
      expect(await ledger.register([first])).toEqual([{ dataset: 'reviews', account: 'reviews', isNew: false }]);
      expect(await ledger.head()).toEqual(before);
    });

    test('private data that were never registered can not be spent on', async () => {
      await expect(spend(data('reviews', texts(0, 50)), 'w')).rejects.toMatchObject({
        code: 'DATASET_UNREGISTERED',
        exitCode: 3,
      });
    });

    test('hashes under another secret are refused, since no overlap would be seen', async () => {
      await ledger.register([data('reviews', texts(0, 50))]);
      const foreign = data('mails', texts(0, 50), { rows: rowsOf(texts(0, 50), Buffer.alloc(32, 9)) });
      await expect(ledger.register([foreign])).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
    });
  });

  describe('overlap', () => {
    test('records of another account are refused, without a word on how many, and leave nothing behind', async () => {
      await ledger.register([data('reviews', texts(0, 500))]);
      const before = await ledger.head();
      const renamed = data('opinions', texts(497, 1000));
      await expect(ledger.register([renamed])).rejects.toMatchObject({
        code: 'DATASET_OVERLAP',
        exitCode: 3,
        message: expect.stringMatching(/^Dataset opinions shares records with account reviews: [^0-9]*$/) as string,
        hint: expect.stringContaining('epsilonflow ledger register SPEC opinions --joins reviews') as string,
      });
      expect(await ledger.head()).toEqual(before);
      await expect(spend(renamed, 'w')).rejects.toMatchObject({ code: 'DATASET_UNREGISTERED' });
    });

    test('what would be refused is told beforehand, and a quote registers nothing', async () => {
      const first = data('reviews', texts(0, 500));
      const renamed = data('opinions', texts(250, 750));
      const question = (of: DatasetRegistration) => {
        const { dataset, digest } = of;
        return ledger.quote(envelope('w', [entry('a', { dataset })], 10, { dataset, digest }), [of]);
      };
      expect(await question(first)).toMatchObject([{ admitted: true, account: 'reviews' }]);
      await ledger.register([first]);
      await expect(question(renamed)).rejects.toMatchObject({ code: 'DATASET_OVERLAP' });
      expect(await question(data('opinions', texts(0, 250)))).toMatchObject([{ account: 'reviews' }]);
    });

    test('a few common records, empty and repeated ones are no overlap', async () => {
      const common = ['', '', ' ', 'thanks', 'thanks', 'thanks', 'ok'];
      await ledger.register([data('reviews', [...texts(0, 500), ...common])]);
      await ledger.register([data('opinions', [...texts(500, 1000), ...common])]);
    });

    test('a new version of one account that takes in records of another is refused', async () => {
      await ledger.register([data('reviews', texts(0, 500)), data('mails', texts(500, 1000))]);
      await expect(ledger.register([data('reviews', texts(0, 550))])).rejects.toMatchObject({
        code: 'DATASET_OVERLAP',
      });
    });

    test('records may not trickle over either', async () => {
      await ledger.register([data('reviews', texts(0, 500)), data('mails', texts(500, 1000))]);
      await ledger.register([data('mails', texts(499, 1000))]);
      await ledger.register([data('mails', texts(498, 1000))]);
      await expect(ledger.register([data('mails', texts(497, 1000))])).rejects.toMatchObject({
        code: 'DATASET_OVERLAP',
      });
    });

    test('data that join another account spend there from then on', async () => {
      const first = data('reviews', texts(0, 500));
      await ledger.register([first]);
      await spend(first, 'first');
      const renamed = data('opinions', texts(400, 900));
      const joined = { ...renamed, decision: { joins: 'reviews', apartFrom: [], ...why } };
      expect(await ledger.register([joined])).toMatchObject([{ dataset: 'opinions', account: 'reviews' }]);
      expect(await ledger.register([renamed])).toMatchObject([{ account: 'reviews', isNew: false }]);
      expect(await ledger.register([data('opinions', texts(400, 901))])).toMatchObject([{ account: 'reviews' }]);
      await expect(spend(renamed, 'second')).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
    });

    test('data that are apart open an account of their own, until more is shared than was known then', async () => {
      await ledger.register([data('reviews', texts(0, 500))]);
      const renamed = data('opinions', texts(400, 900));
      await ledger.register([{ ...renamed, decision: { joins: null, apartFrom: ['reviews'], ...why } }]);
      await spend(renamed, 'w');
      expect(await ledger.accounts()).toEqual(['opinions']);
      await ledger.register([data('opinions', texts(400, 901))]);
      await expect(ledger.register([data('opinions', texts(300, 900))])).rejects.toMatchObject({
        code: 'DATASET_OVERLAP',
      });
      await expect(ledger.register([data('reviews', texts(0, 600))])).rejects.toMatchObject({
        code: 'DATASET_OVERLAP',
      });
    });

    test.each([
      ['an account that is not there', { joins: 'nobody', apartFrom: [] }, 'has no account nobody'],
      ['apart from nothing known', { joins: null, apartFrom: ['nobody'] }, 'has no account nobody'],
      ['apart from itself', { joins: null, apartFrom: ['opinions'] }, "can't be apart"],
    ])('a decision must fit: %s', async (_, decision, message) => {
      await ledger.register([data('reviews', texts(0, 500))]);
      const decided = data('opinions', texts(400, 900), { decision: { ...decision, ...why } });
      await expect(ledger.register([decided])).rejects.toMatchObject({
        code: 'ARGUMENT_INVALID',
        message: expect.stringContaining(message) as string,
      });
    });

    test('data of an account can not be moved to another', async () => {
      const mails = data('mails', texts(500, 1000));
      await ledger.register([data('reviews', texts(0, 500)), mails]);
      const moved = { ...mails, decision: { joins: 'reviews', apartFrom: [], ...why } };
      await expect(ledger.register([moved])).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    });

    test('a benchmark may share records with another one, private data may not share them', async () => {
      await ledger.register([data('films', texts(0, 500), { benchmark: true })]);
      await ledger.register([data('public', texts(400, 900), { benchmark: true })]);
      const found = expect.stringContaining('with account public') as string;
      await expect(ledger.register([data('opinions', texts(600, 1200))])).rejects.toMatchObject({ message: found });
    });

    test('what was registered as private is no benchmark, whatever its name and whatever is added to it', async () => {
      const code = 'DATASET_OVERLAP';
      await ledger.register([data('reviews', texts(0, 500))]);
      for (const name of ['reviews', 'reviews2']) {
        const renamed = data(name, texts(0, 501), { benchmark: true });
        const message = expect.stringContaining('private data of account reviews') as string;
        await expect(ledger.register([renamed])).rejects.toMatchObject({ code, message });
      }
      const joined = { joins: 'reviews', apartFrom: [], ...why };
      const joining = data('reviews2', texts(0, 501), { benchmark: true, decision: joined });
      await expect(ledger.register([joining])).rejects.toMatchObject({ code });
      const apart = { joins: null, apartFrom: ['reviews'], ...why };
      const decided = data('reviews2', texts(490, 900), { benchmark: true, decision: apart });
      expect(await ledger.register([decided])).toMatchObject([{ account: 'reviews2' }]);
      expect(await ledger.verify()).toBeTruthy();
    });

    test.each([
      ['a copy under another name', 'opinions', texts(0, 500)],
      ['a part under another name', 'opinions', texts(0, 200)],
      ['one row more under another name', 'opinions', texts(0, 501)],
      ['the same records, private from now on', 'films', texts(0, 500)],
      ['other records of the same name', 'films', texts(700, 900)],
    ])('private data do not join the account of a benchmark unless someone says so: %s', async (_, name, rows) => {
      const films = data('films', texts(0, 500), { benchmark: true });
      const settled = { ...films, rows: undefined };
      await ledger.register([films]);
      const head = await ledger.head();
      const secretly = data(name, rows);
      const message = expect.stringContaining('account films') as string;
      await expect(ledger.register([secretly])).rejects.toMatchObject({ code: 'DATASET_OVERLAP', message });
      expect(await ledger.head()).toEqual(head);
      expect(await ledger.isRegistered(settled)).toBe(true);

      const decided = { ...secretly, decision: { joins: 'films', apartFrom: [], ...why } };
      expect(await ledger.register([decided])).toMatchObject([{ account: 'films' }]);
      // What shows exact figures may go on no more, although its data are known.
      expect(await ledger.isRegistered(settled)).toBe(false);
      const refused = expect.stringContaining('private data of account films') as string;
      await expect(ledger.register([films])).rejects.toMatchObject({ code: 'DATASET_OVERLAP', message: refused });
      expect(await ledger.register([data(name, [...rows, 'one more'])])).toMatchObject([{ account: 'films' }]);
      expect(await ledger.verify()).toBeTruthy();
    });

    describe('data that are called public', () => {
      /** Long enough that no two people write the same. */
      const long = (from: number, to: number): string[] =>
        texts(from, to).map((text) => `what one person wrote about one visit, ${text}`);
      const open = (rows: readonly string[], key = secret): PublicData => ({
        dataset: 'corpus',
        digest: '9'.repeat(64),
        rows: publicRowsOf(rows, key),
      });

      beforeEach(async () => {
        await ledger.register([
          data('reviews', [...long(0, 500), ...texts(0, 500)]),
          data('films', long(2000, 2500), { benchmark: true }),
        ]);
      });

      test.each<[string, string[], string[]]>([
        ['other records', long(500, 1000), []],
        ['two records of an account', long(498, 1000), []],
        ['three records of an account', long(497, 1000), ['reviews']],
        ['one record, which is of an account', long(0, 1), ['reviews']],
        ['records of a benchmark', long(2000, 2500), []],
        ['short texts, a twentieth of which are also written there', texts(475, 975), []],
        ['short texts, a fifth of which are also written there', texts(400, 900), ['reviews']],
      ])('%s', async (_, rows, sharers) => {
        expect(await ledger.privateSharers(open(rows), [])).toEqual(sharers);
      });

      test('are held against what the same plan calls private', async () => {
        const pending = data('people', long(700, 900));
        expect(await ledger.privateSharers(open(long(800, 1000)), [pending])).toEqual(['people']);
      });

      test('may hold them once someone has said so, in just this form', async () => {
        const rows = long(490, 1000);
        await ledger.acknowledgePublic(open(rows), { apartFrom: ['reviews'], ...why });
        expect(await ledger.privateSharers(open(rows), [])).toEqual([]);
        const other = { ...open([...rows, 'more']), digest: '8'.repeat(64) };
        expect(await ledger.privateSharers(other, [])).toEqual(['reviews']);
        await ledger.verify();
        const [row] = await database.execute(url, "select account, payload from ledger_rows where kind = 'registered'");
        expect(row).toMatchObject({ account: 'reviews' });
        expect(JSON.parse(String(row!['payload']))).toMatchObject({ dataset: 'corpus', isPublic: true, ...why });
      });

      test('are not compared under another secret', async () => {
        const rows = open(long(0, 500), Buffer.alloc(32, 4));
        await expect(ledger.privateSharers(rows, [])).rejects.toMatchObject({ code: 'LEDGER_MISMATCH' });
      });
    });

    test('the test split has an account of its own, and shares no record with the training split', async () => {
      const digest = 'f'.repeat(64);
      const train = data('reviews', texts(0, 500), { digest });
      const held = data('reviews/test', texts(500, 600), { digest });
      expect(await ledger.register([train, held])).toMatchObject([{ account: 'reviews' }, { account: 'reviews/test' }]);
      await spend(train, 'first');
      await spend(held, 'second');
      expect(await ledger.accounts()).toEqual(['reviews', 'reviews/test']);
      const leaking = data('reviews/test', texts(450, 600));
      await expect(ledger.register([leaking])).rejects.toMatchObject({ code: 'DATASET_OVERLAP' });
    });
  });

  describe('what is remembered of a ledger', () => {
    const { key } = rowsOf([], secret);
    const remembered = async () => ({ ...(await headOf(ledger)), source: 'someone' });

    test('is what it holds, now and before', async () => {
      const empty = await remembered();
      await ledger.register([data('reviews', texts(0, 50))]);
      const heads = [empty, await remembered()];
      await ledger.register([data('mails', texts(50, 100))]);
      expect(await ledger.discontinuities({ heads, rowKey: key })).toEqual([]);
    });

    test('shows another ledger, rows that are gone and a secret that is another one, until acknowledged', async () => {
      await ledger.register([data('reviews', texts(0, 50))]);
      const head = await remembered();
      const memory = {
        heads: [head, { ...head, ledger: 'another' }, { ...head, sequence: 9 }, { ...head, hash: 'e'.repeat(64) }],
        rowKey: rowsOf([], Buffer.alloc(32, 9)).key,
      };
      const found = await ledger.discontinuities(memory);
      expect(found.map(({ problem }) => problem)).toEqual(['exchanged', 'rolled-back', 'rolled-back', 'secret-lost']);
      await ledger.acknowledge(found, why);
      expect(await ledger.discontinuities(memory)).toEqual([]);
      const later = [{ ...head, sequence: 10 }];
      expect(await ledger.discontinuities({ ...memory, heads: later })).toHaveLength(1);
      await ledger.verify();
    });
  });

  describe('the record of it', () => {
    const planted = 'a very private sentence of one person';

    test('holds no text, no count and no plain digest of a record', async () => {
      const rows = [planted, ...texts(0, 122)];
      await ledger.register([data('reviews', rows)]);
      const decision = { joins: null, apartFrom: ['reviews'], ...why };
      await ledger.register([data('opinions', rows.slice(0, 60), { decision })]);
      await ledger.close();
      const chain = JSON.stringify(await database.execute(url, 'select payload from ledger_rows'));
      ledger = await openLedger(url);
      expect(chain).toContain('looked at both');
      for (const hidden of [planted, '123', '122', '60']) {
        expect(chain.replaceAll(/[0-9a-f]{64}/g, '')).not.toContain(hidden);
      }
    });

    test('two private datasets of one plan are two accounts, or the plan is refused', async () => {
      const [all, part] = [data('reviews', texts(0, 500)), data('opinions', texts(100, 300))];
      await ledger.register([all, part]);
      const both = (): Envelope => {
        const [first, second] = [all, part].map(({ dataset, digest }) =>
          envelope('w', [entry(dataset, { dataset })], 3, { dataset, digest }),
        );
        return {
          ...first!,
          accounts: [...first!.accounts, ...second!.accounts],
          entries: [...first!.entries, ...second!.entries],
        };
      };
      const refused = { code: 'DATASET_OVERLAP', message: expect.stringContaining('one account') as string };
      await expect(ledger.quote(both())).rejects.toMatchObject(refused);
      await expect(ledger.reserve(both())).rejects.toMatchObject(refused);
    });

    test.each([
      ['changed', "update account_rows set hashes = substr(hashes, 33) where account = 'mails'"],
      ['dropped', "delete from account_rows where account = 'mails'"],
      ['moved to another account', "update account_rows set account = 'reviews' where account = 'mails'"],
      ['cut', "update account_rows set hashes = substr(hashes, 2) where account = 'mails'"],
      ['named for another account', "update account_names set account = 'reviews' where dataset = 'mails'"],
      ["called nobody's", "insert into account_overlaps values ('mails', 'reviews', 0)"],
      ['added', "insert into account_rows values ('elsewhere', 0, 'mails', '')"],
    ])('rows that were %s behind its back are found', async (_, statement) => {
      await ledger.register([data('reviews', texts(0, 500)), data('mails', texts(500, 1000))]);
      await ledger.verify();
      await ledger.close();
      await database.execute(url, statement);
      ledger = await openLedger(url);
      await expect(ledger.verify()).rejects.toMatchObject({ code: 'LEDGER_CORRUPT' });
    });

    test('140,000 records cost seconds, and nothing of note when they come again', async () => {
      const started = performance.now();
      const large = data('large', texts(0, 140_000));
      await ledger.register([large]);
      const registered = performance.now();
      await ledger.register([data('large', texts(0, 140_001))]);
      const appended = performance.now();
      expect(registered - started).toBeLessThan(20_000);
      expect(appended - registered).toBeLessThan(20_000);
    });
  });
});
