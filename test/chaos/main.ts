/**
 * @file `npm run chaos [-- --seed S] [--trials N] [--temporal M] [--services K] [--trial NUMBER]`: the long series of
 * chaos trials, M more on a Temporal server, and K kills of the services of runs. Progress goes to stderr, the tables to
 * stdout. Exit code 1 when a trial failed or a boundary was missed.
 */

import { parseArgs } from 'node:util';

import { ledgerDatabases } from '../privacy/ledger-databases.ts';
import { missingOf, runCampaign } from './campaign.ts';
import { runServiceChaos } from './services.ts';
import { serviceTableOf, tableOf } from './table.ts';
import { runOnTemporal } from './temporal.ts';

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

const hitsEach = 5;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      trials: { type: 'string', default: '500' },
      temporal: { type: 'string', default: '50' },
      services: { type: 'string', default: '100' },
      trial: { type: 'string' },
      lanes: { type: 'string', default: '2' },
    },
  });
  const numberOf = (name: 'seed' | 'trials' | 'temporal' | 'services' | 'lanes'): number => Number(values[name]);
  const [seed, trials, lanes] = [numberOf('seed'), numberOf('trials'), numberOf('lanes')];
  const only = values.trial === undefined ? null : Number(values.trial);
  say(`seed ${seed}: what fails can be run again by --seed ${seed} --trial NUMBER`);
  const databases = ledgerDatabases('chaos');
  for (const database of databases) await database.setUp();
  try {
    const most = Math.max(2 * trials, trials + 50);
    const campaign = await runCampaign({ seed, trials, most, hitsEach, only, lanes, databases, say });
    const countOf = (name: 'temporal' | 'services'): number => (only === null ? numberOf(name) : 0);
    const settings = { seed, trials: countOf('temporal'), databases, say };
    const onTemporal = settings.trials > 0 ? await runOnTemporal(settings) : null;
    console.log(tableOf(campaign, onTemporal));
    const kills = countOf('services');
    const ofServices = kills > 0 ? await runServiceChaos({ seed, kills, say }) : null;
    if (ofServices) console.log(serviceTableOf(ofServices));
    const problems = [campaign, onTemporal, ofServices].flatMap((each) => each?.problems ?? []);
    for (const problem of problems) console.log(`FAILED ${problem}`);
    if (only !== null) return problems.length > 0 ? 1 : 0;
    const missing = Object.entries(campaign.hits).flatMap(([name, hits]) =>
      missingOf(hits, hitsEach).map((boundary) => `${boundary} on ${name}`),
    );
    if (missing.length > 0) console.log(`MISSED, hit fewer than ${hitsEach} times: ${missing.join('; ')}`);
    if (databases.length < 2) console.log('MISSED PostgreSQL: it does not run here');
    return problems.length + missing.length > 0 || databases.length < 2 ? 1 : 0;
  } finally {
    for (const database of databases) await database.tearDown();
  }
}

process.exitCode = await main();
