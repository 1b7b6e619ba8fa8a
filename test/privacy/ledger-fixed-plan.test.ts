import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { filterEpsilon } from '../../privacy/ledger/admission.ts';
import { openLedger, type Envelope, type Ledger } from '../../privacy/ledger/index.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { delta, entry, envelope, registration, stateDigest } from './ledger-fixture.ts';

const events = (entries: number) => [
  {
    mechanism: 'poisson-gaussian',
    samplingProbability: 0.01,
    noiseMultiplier: 1,
    count: Math.round(1000 * entries),
  } as const,
];
const epsilonOf = (entries: number): number => composedEpsilon(events(entries), delta).epsilon;
const filteredOf = (entries: number): number => filterEpsilon({ events: events(entries), unbounded: 0 }, delta);

// Room for a fixed plan of three entries, but by the filter only for one.
const budget = epsilonOf(3) * 1.0001;

const plan = (workflow: string, names: string[], stated: number | null): Envelope =>
  envelope(
    workflow,
    names.map((name) => entry(name)),
    stated,
  );

describe.each(ledgerDatabases('plans admitted by their tight figure alone'))('on $name', (database) => {
  let ledger: Ledger;

  beforeAll(database.setUp);
  afterAll(database.tearDown);

  beforeEach(async () => {
    ledger = await openLedger(await database.fresh());
    await ledger.register([registration()]);
  });

  afterEach(async () => {
    await ledger.verify();
    await ledger.close();
  });

  /** A plan of three, of which one has begun with one step when the run ends. */
  async function cancelled(): Promise<void> {
    const [first] = await ledger.reserve(plan('w', ['a', 'b', 'c'], budget));
    const token = await ledger.begin(first!, 1, null);
    await ledger.recordStep(first!, token, 0, stateDigest);
    expect(await ledger.release('w')).toBe(2);
    await expect(ledger.recordStep(first!, token, 1, stateDigest)).rejects.toMatchObject({ code: 'FENCED' });
  }

  test('the fixture is such a case: what was not run would make room by the filter', () => {
    expect(filteredOf(3)).toBeGreaterThan(budget);
    expect(filteredOf(1.001)).toBeLessThan(budget);
  });

  test('cancelled after it began, such a plan keeps its whole place', async () => {
    await cancelled();
    expect(await ledger.accountSummary('reviews')).toMatchObject({
      total: epsilonOf(3),
      remaining: 0,
      experiments: [{ entries: { begun: 1, released: 2 } }],
    });
    await expect(ledger.reserve(plan('other', ['x'], budget))).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
  });

  test('the plan itself goes on at no further charge', async () => {
    await cancelled();
    const [, second] = await ledger.reserve(plan('w', ['a', 'b', 'c'], budget));
    await ledger.begin(second!, 1, null);
    expect(await ledger.accountSummary('reviews')).toMatchObject({
      total: epsilonOf(3),
      experiments: [{ entries: { begun: 2, reserved: 1, released: 0 } }],
    });
  });

  test('another experiment follows only a budget that holds all of both by the filter', async () => {
    await cancelled();
    const why = { author: 'board', reason: 'new consent' };
    await ledger.setBudget('reviews', filteredOf(4) * 0.9999, why);
    await expect(ledger.reserve(plan('other', ['x'], null))).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
    await ledger.setBudget('reviews', filteredOf(4) * 1.0001, why);
    await ledger.reserve(plan('other', ['x'], null));
    expect((await ledger.accountSummary('reviews'))?.total).toBe(filteredOf(4));
  });

  test('a plan that the filter admits too gives back what did not run', async () => {
    const wide = filteredOf(3) * 1.0001;
    const [first] = await ledger.reserve(plan('w', ['a', 'b', 'c'], wide));
    const token = await ledger.begin(first!, 1, null);
    await ledger.recordStep(first!, token, 0, stateDigest);
    expect(await ledger.release('w')).toBe(3);
    await ledger.reserve(plan('other', ['x', 'y'], wide));
    expect((await ledger.accountSummary('reviews'))?.total).toBe(filteredOf(2.001));
  });

  test('a plan that the filter admits is guarded by it to the end: its tight figure admits no repetition', async () => {
    const exact = filteredOf(3) * (1 + 1e-9);
    expect(epsilonOf(4)).toBeLessThan(exact);
    const [first] = await ledger.reserve(plan('w', ['a', 'b', 'c'], exact));
    const token = await ledger.begin(first!, 1, null);
    for (let step = 0; step < 1000; step += 1) await ledger.recordStep(first!, token, step, stateDigest);
    const repeat = ledger.recordStep(first!, token, 0, 'e'.repeat(64));
    await expect(repeat).rejects.toMatchObject({
      code: 'BUDGET_REFUSED',
      message: expect.stringContaining('Renyi') as string,
    });
  });

  test('cancelled before anything of it began, it leaves the account as new', async () => {
    await ledger.reserve(plan('w', ['a', 'b', 'c'], budget));
    expect(await ledger.release('w')).toBe(3);
    expect(await ledger.accountSummary('reviews')).toMatchObject({ total: 0 });
    await ledger.reserve(plan('other', ['x', 'y', 'z'], budget));
  });

  test('entries added once something has begun are no part of a fixed plan', async () => {
    const [first] = await ledger.reserve(plan('w', ['a', 'b'], budget));
    const [before] = await ledger.quote(plan('w', ['a', 'b', 'c'], budget));
    expect(before).toMatchObject({ rule: 'fixed-plan', admitted: true, after: epsilonOf(3) });
    await ledger.begin(first!, 1, null);
    const [after] = await ledger.quote(plan('w', ['a', 'b', 'c'], budget));
    expect(after).toMatchObject({ rule: 'renyi-filter', admitted: false, after: filteredOf(3) });
    await expect(ledger.reserve(plan('w', ['a', 'b', 'c'], budget))).rejects.toMatchObject({ code: 'BUDGET_REFUSED' });
  });

  test('of two experiments started at once a budget that holds one admits one', async () => {
    const outcomes = await Promise.allSettled(
      ['v', 'w'].map((workflow) => ledger.reserve(plan(workflow, ['a', 'b', 'c'], budget))),
    );
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });
});
