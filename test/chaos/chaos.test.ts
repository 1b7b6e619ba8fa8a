/** @file A short series of chaos trials; `npm run chaos` is the long one. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { ledgerDatabases } from '../privacy/ledger-databases.ts';
import { runCampaign } from './campaign.ts';
import { runOnTemporal } from './temporal.ts';

const databases = ledgerDatabases('chaos');
/** Another one at each run; what fails names its trial, which `npm run chaos -- --seed S --trial N` runs again. */
const seed = Date.now() % 1_000_000;
const quiet = (): void => undefined;

beforeAll(async () => {
  for (const database of databases) await database.setUp();
});
afterAll(async () => {
  for (const database of databases) await database.tearDown();
});

describe('processes killed between any two statements', () => {
  it('leave a ledger that counts all that was spent, and no more than that and what was in flight', async () => {
    const trials = 30;
    const settings = { seed, trials, most: trials, hitsEach: 0, only: null, lanes: 2, databases, say: quiet };
    const { problems, deaths, hits, ...sums } = await runCampaign(settings);
    expect(problems).toEqual([]);
    expect(sums).toMatchObject({ trials, underCounted: 0, overCounted: 0 });
    expect(deaths).toBeGreaterThan(trials);
    // These would be missing if someone took them out of the code.
    for (const boundaries of Object.values(hits)) {
      for (const operation of ['register', 'reserve', 'begin', 'record', 'extend', 'commit', 'release']) {
        expect(boundaries).toHaveProperty([`${operation}: asked`]);
        expect(boundaries).toHaveProperty([`${operation}: durable`]);
      }
      for (const name of ['step: announced', 'step: done', 'publish: asked', 'publish: renamed', 'key: removed']) {
        expect(boundaries).toHaveProperty([name]);
      }
    }
  }, 600_000);

  it('leave one on a real Temporal server, whose experiments all complete', async () => {
    const at = ['step: announced', 'turn: made', 'attempt: published', 'report: heard'];
    const settings = { seed, trials: at.length, at, databases: databases.slice(0, 1), say: quiet };
    const { problems, deaths, turns, ...sums } = await runOnTemporal(settings);
    expect(problems).toEqual([]);
    expect(deaths).toBe(at.length);
    expect(turns).toBeGreaterThan(0);
    expect(sums).toMatchObject({ underCounted: 0, overCounted: 0 });
  }, 600_000);
});
