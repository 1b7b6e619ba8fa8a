/**
 * @file `npm run chaos [-- --seed S] [--trials N] [--trial NUMBER]`: the long series of chaos trials. Progress goes to
 * stderr, the table to stdout. Exit code 1 when a trial failed or a boundary was missed.
 */

import { parseArgs } from 'node:util';

import { ledgerDatabases } from '../privacy/ledger-databases.ts';
import { missingOf, runCampaign, tableOf } from './campaign.ts';

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

const hitsEach = 5;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      trials: { type: 'string', default: '500' },
      trial: { type: 'string' },
      lanes: { type: 'string', default: '2' },
    },
  });
  const [seed, trials, lanes] = [values.seed, values.trials, values.lanes].map(Number) as [number, number, number];
  const only = values.trial === undefined ? null : Number(values.trial);
  say(`seed ${seed}: what fails can be run again by --seed ${seed} --trial NUMBER`);
  const databases = ledgerDatabases('chaos');
  for (const database of databases) await database.setUp();
  try {
    const most = Math.max(2 * trials, trials + 50);
    const campaign = await runCampaign({ seed, trials, most, hitsEach, only, lanes, databases, say });
    console.log(tableOf(campaign));
    for (const problem of campaign.problems) console.log(`FAILED ${problem}`);
    if (only !== null) return campaign.problems.length > 0 ? 1 : 0;
    const missing = Object.entries(campaign.hits).flatMap(([name, hits]) =>
      missingOf(hits, hitsEach).map((boundary) => `${boundary} on ${name}`),
    );
    if (missing.length > 0) console.log(`MISSED, hit fewer than ${hitsEach} times: ${missing.join('; ')}`);
    if (databases.length < 2) console.log('MISSED PostgreSQL: it does not run here');
    return campaign.problems.length + missing.length > 0 || databases.length < 2 ? 1 : 0;
  } finally {
    for (const database of databases) await database.tearDown();
  }
}

process.exitCode = await main();
