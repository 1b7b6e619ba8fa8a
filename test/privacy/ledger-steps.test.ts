import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { filterEpsilon, planSpending } from '../../privacy/ledger/admission.ts';
import { stepsHash } from '../../privacy/ledger/chain.ts';
import { openLedger, type FencingToken, type Ledger, type Receipt } from '../../privacy/ledger/index.ts';
import type { PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { delta, entry, envelope, mechanism as long, proof as longProof, registration } from './ledger-fixture.ts';

const steps = 5;
const mechanism: PoissonGaussianMechanism = { ...long, samplingProbability: 0.05, steps };
const proof = { ...longProof, samplingProbability: 0.05, steps };

const events = (count: number) => [
  { mechanism: 'poisson-gaussian', samplingProbability: 0.05, noiseMultiplier: 1, count } as const,
];
const epsilonOf = (count: number): number => composedEpsilon(events(count), delta).epsilon;
const filteredOf = (count: number): number => filterEpsilon({ events: events(count), unbounded: 0 }, delta);

/** Digest of the state that a step starts from, in one line of history or another. */
const state = (step: number, history = 'a'): string => `${history}${step}`.padEnd(64, '0');

describe('the bound of a fixed plan with repeated steps', () => {
  test('counts each repetition as a mechanism that dominates them all', () => {
    const weak = { ...mechanism, samplingProbability: 0.01, noiseMultiplier: 2 };
    const noisy = { ...mechanism, noiseMultiplier: 3 };
    const bound = planSpending([
      { mechanism: { ...weak, noiseMultiplier: 0.8 }, repeated: 0 },
      { mechanism: noisy, repeated: 2 },
    ]);
    expect(bound?.events).toContainEqual({
      mechanism: 'poisson-gaussian',
      samplingProbability: 0.05,
      noiseMultiplier: 0.8,
      count: 2,
    });
    for (const repeated of [weak, noisy, mechanism]) {
      const strongest = { ...events(1)[0]!, noiseMultiplier: 0.8 };
      const { samplingProbability, noiseMultiplier } = repeated;
      expect(composedEpsilon([strongest], delta).epsilon).toBeGreaterThan(
        composedEpsilon([{ ...strongest, samplingProbability, noiseMultiplier }], delta).epsilon,
      );
    }
  });

  test('there is none when something else than training is repeated', () => {
    const release = { kind: 'discrete-laplace', scale: 10, sensitivity: 1 } as const;
    expect(planSpending([{ mechanism: release, repeated: 0 }])).not.toBeNull();
    expect(planSpending([{ mechanism: release, repeated: 1 }])).toBeNull();
  });
});

describe.each(ledgerDatabases('step records'))('on $name', (database) => {
  let url: string;
  let ledger: Ledger;
  let receipt: Receipt;
  let token: FencingToken;

  beforeAll(database.setUp);
  afterAll(database.tearDown);

  beforeEach(async () => {
    url = await database.fresh();
    ledger = await openLedger(url);
    await ledger.register([registration()]);
  });

  afterEach(async () => {
    await ledger.verify();
    await ledger.close();
  });

  const reserve = (workflow: string, names: string[], budget: number | null): Promise<Receipt[]> =>
    ledger.reserve(
      envelope(
        workflow,
        names.map((name) => entry(name, { mechanism })),
        budget,
      ),
    );

  /** Reserves one entry and starts it. */
  async function start(budget: number | null, workflow = 'w', key: string | null = null): Promise<void> {
    [receipt] = (await reserve(workflow, ['a'], budget)) as [Receipt];
    token = await ledger.begin(receipt, 1, key);
  }

  const record = async (from: number, to: number, history = 'a'): Promise<void> => {
    for (let step = from; step < to; step += 1) await ledger.recordStep(receipt, token, step, state(step, history));
  };

  const total = async (): Promise<number | null | undefined> => (await ledger.accountSummary('reviews'))?.total;

  const lastRow = async (): Promise<Record<string, unknown>> => {
    const query = 'select kind, payload, private_payload from ledger_rows order by sequence desc limit 1';
    const [row] = await database.execute(url, query);
    const parts = ['payload', 'private_payload'].map((part) => JSON.parse(String(row![part] ?? '{}')) as object);
    return Object.assign({ kind: row!['kind'] }, ...parts) as Record<string, unknown>;
  };

  test('each step is on disk before it is used, once for each state', async () => {
    await start(10);
    await record(0, 3);
    await record(1, 3);
    const rows = await database.execute(url, 'select ordinal, step, digest from entry_steps order by ordinal');
    expect(rows.map((row) => [Number(row['ordinal']), Number(row['step']), row['digest']])).toEqual(
      [0, 1, 2].map((step) => [step + 1, step, state(step)]),
    );
  });

  test('how many records were drawn for each step stays in the ledger, with the commit', async () => {
    const drawn = [9_175_331, 0, 9_475_113];
    await start(10);
    for (const [step, batchSize] of drawn.entries())
      await ledger.recordStep(receipt, token, step, state(step), batchSize);
    await ledger.recordStep(receipt, token, 1, state(1, 'b'), 12);
    // The same step from the same state draws the same records.
    await ledger.recordStep(receipt, token, 1, state(1), 0);
    for (let step = 3; step < steps; step += 1) await ledger.recordStep(receipt, token, step, state(step), 40);
    const { records_hash: hash } = (await database.execute(url, 'select records_hash from entries'))[0]!;
    await ledger.commit(receipt, token, proof);
    const sizes = [...drawn, 12, ...Array.from({ length: steps - 3 }, () => 40)];
    expect(await lastRow()).toMatchObject({ kind: 'committed', batchSizes: sizes, recordsHash: hash });
    // Nor do others see it in a hash: that of the records is of steps and states alone.
    const states = [0, 1, 2].map((step) => state(step)).concat(state(1, 'b'));
    const others = Array.from({ length: steps - 3 }, (_, index) => state(index + 3));
    const places = [0, 1, 2, 1, ...others.map((_, index) => index + 3)];
    const all = [...states, ...others];
    expect(all.reduce((previous, digest, index) => stepsHash(previous, places[index]!, digest), '')).toBe(hash);

    const shown = JSON.stringify(await ledger.rowsBehind('w', []));
    const told = JSON.stringify(await ledger.accountSummary('reviews'));
    for (const text of [shown, told]) expect(text).not.toMatch(/batchSize|batch_size|9175331|9475113/);
  });

  test('an entry is bound to the key that its first attempt has, and goes on without one but not with another', async () => {
    const [key, other] = ['1'.repeat(64), '2'.repeat(64)];
    await start(10);
    token = await ledger.begin(receipt, 2, key);
    expect(await lastRow()).toMatchObject({ kind: 'begun', keyFingerprint: key });
    await record(0, 1);
    const head = await ledger.head();
    await expect(ledger.begin(receipt, 3, other)).rejects.toMatchObject({
      code: 'NOISE_KEY_LOST',
      hint: expect.stringContaining('stays charged') as string,
    });
    expect(await ledger.head()).toEqual(head);
    expect(await total()).toBe(epsilonOf(steps));
    // The attempt that has the key was not fenced off.
    await record(1, 2);
    token = await ledger.begin(receipt, 4, null);
    expect(await lastRow()).toMatchObject({ kind: 'begun', keyFingerprint: key });
    token = await ledger.begin(receipt, 5, key);
    await ledger.release('w');
    await reserve('w', ['a'], 10);
    await expect(ledger.begin(receipt, 6, other)).rejects.toMatchObject({ code: 'NOISE_KEY_LOST' });
    token = await ledger.begin(receipt, 6, key);
    await ledger.commit(receipt, token, proof);
    expect((await ledger.begin(receipt, 7, other)).state).toBe('committed');
  });

  test('of two attempts that begin at once with keys of their own one is refused', async () => {
    [receipt] = (await reserve('w', ['a'], 10)) as [Receipt];
    const begun = await Promise.allSettled(['1', '2'].map((digit) => ledger.begin(receipt, 1, digit.repeat(64))));
    expect(begun.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  test('a mechanism has no other steps than those reserved', async () => {
    await start(10);
    for (const step of [steps, -1, 0.5]) {
      await expect(ledger.recordStep(receipt, token, step, state(0))).rejects.toMatchObject({
        code: 'RECEIPT_INVALID',
      });
    }
  });

  test('steps repeated from other states cost nothing up to the number reserved, then one more each', async () => {
    await start(10);
    await record(0, 3);
    const head = await ledger.head();
    token = await ledger.begin(receipt, 2, null);
    await record(2, 3, 'b');
    await record(3, 4, 'b');
    expect(await total()).toBe(epsilonOf(steps));
    expect(await ledger.recordStep(receipt, token, 3, state(3, 'b'))).toEqual({
      isChained: false,
      records: 5,
      isNew: false,
    });
    expect((await ledger.head()).sequence).toBe(head.sequence + 1);

    expect(await ledger.recordStep(receipt, token, 4, state(4, 'b'))).toEqual({
      isChained: true,
      records: 6,
      isNew: true,
    });
    expect(await lastRow()).toMatchObject({ kind: 'extended', charged: steps + 1, step: 4, records: steps + 1 });
    expect(await total()).toBe(epsilonOf(steps + 1));
    await record(0, 3);
    await record(2, 5, 'b');
    expect(await total()).toBe(epsilonOf(steps + 1));

    await ledger.commit(receipt, token, proof);
    expect(await lastRow()).toMatchObject({ kind: 'committed', charged: 6, records: 6, repeatedSteps: 1 });
    expect(await ledger.accountSummary('reviews')).toMatchObject({
      committed: epsilonOf(steps + 1),
      experiments: [{ repeatedSteps: 1, plan: { epsilon: epsilonOf(steps) } }],
    });
  });

  test('a repetition that does not fit the budget is refused, and not recorded', async () => {
    await start(epsilonOf(steps + 1) * 1.0001);
    await record(0, steps);
    await record(0, 1, 'b');
    await expect(record(1, 2, 'b')).rejects.toMatchObject({
      code: 'BUDGET_REFUSED',
      exitCode: 3,
      message: expect.stringMatching(/^Dataset reviews: /) as string,
    });
    expect(await total()).toBe(epsilonOf(steps + 1));
    expect(await database.execute(url, 'select step from entry_steps')).toHaveLength(steps + 1);
    // What is recorded already goes on.
    await record(0, steps);
    await ledger.commit(receipt, token, proof);
  });

  test('beside another experiment the filter judges repetitions', async () => {
    await start(filteredOf(2 * steps) * 1.0001);
    await reserve('other', ['x'], null);
    await record(0, steps);
    await expect(record(0, 1, 'b')).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
    await ledger.setBudget('reviews', filteredOf(2 * steps + 1) * 1.0001, { author: 'board', reason: 'repeat' });
    await record(0, 1, 'b');
    expect(await total()).toBe(filteredOf(2 * steps + 1));
  });

  test('a budget that a benchmark spec states binds its repetitions too', async () => {
    const stated = envelope('w', [entry('a', { mechanism })], epsilonOf(steps) * 1.0001, { benchmark: true });
    [receipt] = (await ledger.reserve(stated)) as [Receipt];
    token = await ledger.begin(receipt, 1, null);
    await record(0, steps);
    await expect(record(0, 1, 'b')).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
  });

  test('the end of a run gives back the steps of a begun entry that no attempt recorded', async () => {
    await start(10);
    await record(0, 2);
    expect(await ledger.release('w')).toBe(1);
    expect(await ledger.release('w')).toBe(0);
    expect(await lastRow()).toMatchObject({ kind: 'reduced', charged: 2, records: 2 });
    expect(await total()).toBe(Math.min(filteredOf(2), epsilonOf(steps)));
    await expect(record(2, 3)).rejects.toMatchObject({ code: 'FENCED' });
    await expect(ledger.commit(receipt, token, proof)).rejects.toMatchObject({ code: 'FENCED' });

    // Taken up again, the rest is reserved once more; what was recorded is not charged twice.
    await reserve('w', ['a'], 10);
    token = await ledger.begin(receipt, 2, null);
    await record(0, steps);
    expect(await total()).toBe(epsilonOf(steps));
    await ledger.commit(receipt, token, proof);
    expect(await total()).toBe(epsilonOf(steps));
  });

  test('the end of a run gives nothing back of an entry that had more records than this ledger holds', async () => {
    await start(10);
    await record(0, 2);
    expect(await ledger.recordCount(receipt.entryId)).toBe(2);
    expect(await ledger.recordCount('of another ledger')).toBe(0);
    expect(await ledger.release('w', { records: new Map([[receipt.entryId, 3]]) })).toBe(0);
    expect(await lastRow()).toMatchObject({ kind: 'ended', records: 2 });
    expect(await total()).toBe(epsilonOf(steps));
    expect(await ledger.release('w', { records: new Map([[receipt.entryId, 2]]) })).toBe(1);
  });

  test('an attempt that goes on after its run gave back pays step by step', async () => {
    await start(filteredOf(steps) * 1.0001);
    await record(0, 2);
    await ledger.release('w');
    await reserve('other', ['x'], null).catch(() => undefined);
    token = await ledger.begin(receipt, 2, null);
    await record(2, 3);
    expect(await lastRow()).toMatchObject({ kind: 'extended', charged: 3 });
  });

  /** What the end of a run leaves whole: nobody may go on with it unseen. */
  async function endsWhole(): Promise<void> {
    expect(await ledger.release('w')).toBe(0);
    expect(await lastRow()).toMatchObject({ kind: 'ended' });
    const head = await ledger.head();
    expect(await ledger.release('w')).toBe(0);
    expect(await ledger.head()).toEqual(head);
    const [row] = await database.execute(url, 'select charged from entries');
    expect(Number(row!['charged'])).toBe(steps);
    const fenced = { code: 'FENCED' };
    await expect(record(0, 1)).rejects.toMatchObject(fenced);
    await expect(ledger.checkFence(receipt, token)).rejects.toMatchObject(fenced);
    await expect(ledger.commit(receipt, token, proof)).rejects.toMatchObject(fenced);
    await ledger.verify();

    token = await ledger.begin(receipt, 2, null);
    await record(0, steps);
    await ledger.commit(receipt, token, proof);
  }

  test('an entry that began gives all back where nobody without its key can have recorded a step', async () => {
    await start(10, 'w', 'key');
    for (const ownKeys of [new Map(), new Map([[receipt.entryId, 'of another host']])]) {
      expect(await ledger.release('w', { ownKeys })).toBe(0);
    }
    expect(await ledger.release('w', { ownKeys: new Map([[receipt.entryId, 'key']]) })).toBe(1);
    expect(await lastRow()).toMatchObject({ kind: 'reduced', charged: 0, records: 0 });
    expect(await total()).toBe(0);
    await expect(record(0, 1)).rejects.toMatchObject({ code: 'FENCED' });
    await ledger.verify();

    await reserve('w', ['a'], 10);
    token = await ledger.begin(receipt, 2, 'key');
    await record(0, steps);
    await ledger.commit(receipt, token, proof);
    expect(await total()).toBe(filteredOf(steps));
    await ledger.verify();
  });

  test('an entry whose beginning the ledger lacks gives nothing back', async () => {
    [receipt] = (await reserve('w', ['a'], 10)) as [Receipt];
    expect(await ledger.release('w', { records: new Map([[receipt.entryId, 3]]) })).toBe(0);
    expect(await total()).toBe(epsilonOf(steps));
    expect(await ledger.release('w')).toBe(1);
    expect(await total()).toBe(0);
  });

  test('an entry without records gives nothing back where that is all that is known, and its attempt ends', async () => {
    await start(10);
    await endsWhole();
    expect(await total()).toBe(epsilonOf(steps));
  });

  test.each([
    [
      'a gap',
      [
        [0, 'a'],
        [2, 'a'],
      ],
    ],
    [
      'a gap that as many repeated steps hide',
      [
        [0, 'a'],
        [0, 'b'],
        [2, 'a'],
      ],
    ],
    [
      'no first step',
      [
        [1, 'a'],
        [1, 'b'],
      ],
    ],
  ] satisfies [string, [number, string][]][])(
    'records with %s give nothing back, and their attempt ends',
    async (_, records) => {
      await start(10);
      for (const [step, history] of records) await record(step, step + 1, history);
      await endsWhole();
    },
  );

  test('an entry all of whose steps are recorded gives nothing back, and its attempt ends', async () => {
    await start(10);
    await record(0, steps);
    await endsWhole();
  });

  test('repeated steps without a gap give the rest back', async () => {
    await start(10);
    await record(0, 2);
    await record(1, 2, 'b');
    expect(await ledger.release('w')).toBe(1);
    expect(await lastRow()).toMatchObject({ kind: 'reduced', charged: 3, records: 3 });
  });
});
