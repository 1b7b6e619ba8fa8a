import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { expect, test } from 'vitest';

import { openLedger } from '../../privacy/ledger/index.ts';
import { packageRoot } from '../../stack/paths.ts';
import { entry, envelope, registration } from './ledger-fixture.ts';

const run = promisify(execFile);

test('processes that race for one budget get exactly what fits, also when they open the ledger at once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ledger-race-'));
  const url = `sqlite:${join(folder, 'ledger.db')}`;
  const budget = 9;
  const racers = ['a', 'b', 'c', 'd', 'e', 'f'];
  const outcomes = await Promise.all(
    racers.map((name) =>
      run(process.execPath, ['--import', 'tsx', 'test/privacy/ledger-process.ts', url, name, '5', String(budget)], {
        cwd: packageRoot,
      }),
    ),
  );
  const admitted = outcomes.reduce((sum, outcome) => sum + Number(outcome.stdout), 0);

  // What one process alone gets admitted, one after another.
  const alone = await openLedger(`sqlite:${join(folder, 'alone.db')}`);
  await alone.register([registration()]);
  let expected = 0;
  for (; expected < 30; expected += 1) {
    const verdict = await alone.reserve(envelope(`w${expected}`, [entry(`n${expected}`)], budget)).catch(() => null);
    if (verdict === null) break;
  }
  expect(expected).toBeGreaterThan(2);
  expect(expected).toBeLessThan(30);
  expect(admitted).toBe(expected);

  const ledger = await openLedger(url);
  expect(await ledger.verify()).toEqual({ rows: 2 + admitted });
  expect((await ledger.accountSummary('reviews'))?.experiments).toHaveLength(admitted);
  await Promise.all([alone.close(), ledger.close()]);
  rmSync(folder, { recursive: true });
}, 60_000);

test('one process may open the ledger twice and use both at once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ledger-twice-'));
  const url = `sqlite:${join(folder, 'ledger.db')}`;
  const [first, second] = await Promise.all([openLedger(url), openLedger(url)]);
  await first.register([registration()]);
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 ? first : second).reserve(envelope(`w${i}`, [entry(`n${i}`)], null))),
  );
  await first.close();
  expect((await second.accountSummary('reviews'))?.experiments).toHaveLength(20);
  await second.close();
  rmSync(folder, { recursive: true });
});
