import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { main } from '../../cli/main.ts';
import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { filterEpsilon, spendingOf } from '../../privacy/ledger/admission.ts';
import { ledgerSecret, openLedger, rowsOf } from '../../privacy/ledger/index.ts';
import { delta, entry, envelope, mechanism, proof, registration } from './ledger-fixture.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'privacy-commands-'));
  vi.stubEnv('EPSILONFLOW_LEDGER_URL', `sqlite:${join(folder, 'ledger.db')}`);
  vi.stubEnv('EPSILONFLOW_HOME', join(folder, 'state'));
  process.exitCode = undefined;
});

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  process.exitCode = undefined;
  rmSync(folder, { recursive: true });
});

/** What the command prints on stdout, parsed, and its exit code. */
async function run(...args: string[]): Promise<{ printed: Record<string, unknown>; exitCode: number }> {
  let text = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  await main([...args, '--json']);
  vi.restoreAllMocks();
  return { printed: JSON.parse(text) as Record<string, unknown>, exitCode: Number(process.exitCode ?? 0) };
}

const training = ['--sampling-probability', '0.01', '--noise-multiplier', '1', '--steps', '1000', '--delta', '1e-5'];

test('privacy epsilon prints the tighter figure, or the one asked for', async () => {
  const tight = await run('privacy', 'epsilon', ...training);
  expect(tight).toMatchObject({ exitCode: 0, printed: { accountant: 'pld' } });
  expect(tight.printed['epsilon']).toBeCloseTo(1.828, 2);
  const renyi = await run('privacy', 'epsilon', ...training, '--accountant', 'rdp');
  expect(renyi.printed).toMatchObject({ accountant: 'rdp' });
  expect(renyi.printed['epsilon']).toBeCloseTo(2.101, 2);
});

test('privacy epsilon composes unlike mechanisms, from text or file', async () => {
  const events = '[{"mechanism":"gaussian","noiseMultiplier":5,"count":3},{"mechanism":"laplace","scale":10}]';
  const file = join(folder, 'events.json');
  writeFileSync(file, events);
  const fromText = await run('privacy', 'epsilon', '--events', events, '--delta', '1e-6');
  const fromFile = await run('privacy', 'epsilon', '--events', file, '--delta', '1e-6');
  expect(fromText).toEqual(fromFile);
  const expected = composedEpsilon(
    [
      { mechanism: 'gaussian', noiseMultiplier: 5, count: 3 },
      { mechanism: 'laplace', scale: 10, count: 1 },
    ],
    1e-6,
  );
  expect(fromText.printed).toEqual(expected);
});

test('privacy sigma and steps undo privacy epsilon', async () => {
  const sigma = await run(
    ...['privacy', 'sigma', '--target-epsilon', '3', '--sampling-probability', '0.01', '--steps', '1000'],
    ...['--delta', '1e-5'],
  );
  const noiseMultiplier = Number(sigma.printed['noiseMultiplier']);
  const back = await run(
    ...['privacy', 'steps', '--target-epsilon', '3', '--sampling-probability', '0.01'],
    ...['--noise-multiplier', String(noiseMultiplier), '--delta', '1e-5'],
  );
  expect(back.printed['steps']).toBe(1000);
});

test.each([
  [['privacy', 'epsilon', '--steps', '10', '--delta', '1e-5'], '--sampling-probability is missing'],
  [['privacy', 'epsilon', ...training.slice(0, 6), '--delta', '2'], 'delta must lie strictly between 0 and 1'],
  [['privacy', 'epsilon', '--events', '[{"mechanism":"magic"}]', '--delta', '1e-5'], 'Unknown mechanism'],
  [['privacy', 'epsilon', '--events', 'nowhere.json', '--delta', '1e-5'], 'nowhere.json can not be read'],
  [['privacy', 'sigma', '--target-epsilon', 'much', '--delta', '1e-5'], 'must be a number'],
  [['ledger', 'show', 'nothing'], 'no account nothing'],
])('wrong arguments end with exit code 2: %j', async (args, message) => {
  const { printed, exitCode } = await run(...args);
  expect(exitCode).toBe(2);
  expect(JSON.stringify(printed['errors'])).toContain(message);
});

test('ledger show gives budget, committed, reserved and remaining, by experiment', async () => {
  const url = process.env['EPSILONFLOW_LEDGER_URL']!;
  const ledger = await openLedger(url);
  await ledger.register([registration({ rows: rowsOf(['a review'], await ledgerSecret(url)) })]);
  const [receipt] = await ledger.reserve(envelope('run-1', [entry('a'), entry('b')], 10));
  await ledger.commit(receipt!, await ledger.begin(receipt!, 1, null), proof);
  await ledger.close();
  const { printed } = await run('ledger', 'show');
  const [account] = printed['accounts'] as Record<string, number & { epsilon: number }[]>[];
  expect(account).toMatchObject({
    account: 'reviews',
    budget: 10,
    experiments: [{ experiment: 'test', workflowId: 'run-1', entries: { committed: 1, reserved: 1 } }],
  });
  expect(account!['committed']).toBe(account!['reserved']);
  expect(Number(account!['total'])).toBeLessThan(2 * Number(account!['committed']));
  // Left for another experiment, to which the filter applies, and not the tight figure of the one that is there.
  const spent = spendingOf([{ mechanism, applications: 2000 }]);
  expect(Number(account!['remaining'])).toBe(10 - filterEpsilon(spent, delta));
  const silent = (who: string): string =>
    `The privacy ledger was not compared with what ${who} remembers of it: it does not answer.`;
  const unasked = [silent('Temporal'), silent('the tracker')];
  expect((await run('ledger', 'verify')).printed).toEqual({ rows: 6, unsealed: 0, intact: true, unasked });

  await run('ledger', 'set-budget', 'reviews', '12', '--reason', 'new consent form');
  const raised = await run('ledger', 'show', 'reviews');
  expect(raised.printed['accounts']).toMatchObject([{ budget: 12 }]);
});
