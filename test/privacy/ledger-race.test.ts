import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { filterEpsilon } from '../../privacy/ledger/admission.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import { packageRoot } from '../../stack/paths.ts';
import { ledgerDatabases } from './ledger-databases.ts';
import { delta, entry, envelope, registration } from './ledger-fixture.ts';

const run = promisify(execFile);

const processes = 16;
const reservations = 1000;
const stepsEach = 10;

/** What the filter counts of so many admitted reservations. */
const filteredOf = (admitted: number): number => {
  const count = admitted * stepsEach;
  const events = [{ mechanism: 'poisson-gaussian', samplingProbability: 0.01, noiseMultiplier: 1, count } as const];
  return filterEpsilon({ events, unbounded: 0 }, delta);
};

describe.each(ledgerDatabases('processes racing for one budget'))('on $name', (database) => {
  beforeAll(database.setUp);
  afterAll(database.tearDown);

  test('1,000 reservations from 16 processes that open the ledger at once get exactly what fits', async () => {
    const url = await database.fresh();
    const budget = (filteredOf(400) + filteredOf(401)) / 2;
    const racers = Array.from({ length: processes }, (_, racer) => {
      const count = Math.floor(reservations / processes) + (racer < reservations % processes ? 1 : 0);
      const parameters = [url, `racer-${racer}`, String(count), String(budget), String(stepsEach)];
      return run(process.execPath, ['--import', 'tsx', 'test/privacy/ledger-process.ts', ...parameters], {
        cwd: packageRoot,
      });
    });
    const counts = (await Promise.all(racers)).map(({ stdout }) => JSON.parse(stdout) as Record<string, number>);
    const sum = (outcome: string): number => counts.reduce((total, racer) => total + racer[outcome]!, 0);
    expect(sum('asked')).toBe(reservations);
    expect(sum('admitted')).toBe(400);

    const ledger = await openLedger(url);
    // One row each for the data and the account.
    expect(await ledger.verify()).toEqual({ rows: 2 + 400, unsealed: 0 });
    const summary = await ledger.accountSummary('reviews');
    expect(summary?.experiments).toHaveLength(400);
    expect(summary?.total).toBe(filteredOf(400));
    await ledger.close();
  }, 180_000);

  test('one process may open the ledger twice and use both at once', async () => {
    const url = await database.fresh();
    const [first, second] = await Promise.all([openLedger(url), openLedger(url)]);
    await first.register([registration()]);
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? first : second).reserve(envelope(`w${i}`, [entry(`n${i}`)], null))),
    );
    await first.close();
    expect((await second.accountSummary('reviews'))?.experiments).toHaveLength(20);
    await second.close();
  });
});
