/** @file Many chaos trials: finds the boundaries, runs trials side by side, and counts where processes were killed. */

import { filterEpsilon, spendingOf } from '../../privacy/ledger/admission.ts';
import type { TestDatabase } from '../privacy/ledger-databases.ts';
import { delta, planWith, shapes } from './made-up-plan.ts';
import { openPool, type ProcessPool } from './processes.ts';
import { anywhere, asleep, runTrial, type TrialResult } from './run-trial.ts';
import { settings, targetsOf, trialOf, type Boundary, type DatabaseName, type Trial } from './trials.ts';

export interface CampaignSettings {
  seed: number;
  /** At least so many trials; more, until each boundary was hit often enough, up to `most`. */
  trials: number;
  most: number;
  hitsEach: number;
  /** Only this one. */
  only: number | null;
  /** Trials side by side. */
  lanes: number;
  databases: readonly TestDatabase[];
  say(line: string): void;
}

export interface Campaign {
  trials: number;
  deaths: number;
  spent: number;
  charged: number;
  underCounted: number;
  overCounted: number;
  /** How experiments ended, and how often. */
  ends: Record<string, number>;
  /** By database, then by boundary. */
  hits: Record<string, Record<string, number>>;
  /** What went wrong, each with the name of its trial. */
  problems: string[];
  seconds: number;
}

/** Epsilon of one experiment's training by the filter. */
function unitOfBudgets(): number {
  const nodes = planWith(1, 1).nodes;
  const charges = nodes.map(({ privacy }, place) => ({
    mechanism: privacy!.mechanism,
    applications: shapes[place]!.steps,
  }));
  return filterEpsilon(spendingOf(charges), delta);
}

/** All boundaries that a process reaches on a database, by letting some live undisturbed. */
async function catalogOf(database: TestDatabase, pool: ProcessPool, unit: number): Promise<Boundary[]> {
  const found = new Map<string, Boundary>();
  for (const [place, setting] of settings.entries()) {
    const ways = { runSecret: null, isRemembered: false, waits: false };
    const experiment = { name: 'experiment-1', pair: 0, deaths: [...setting], ...ways };
    const trial: Trial = { name: `setting ${place}`, database: database.name, budget: 20, experiments: [experiment] };
    const { problems, reached } = await runTrial(trial, database, pool, unit);
    if (problems.length > 0) throw new Error(`An undisturbed trial failed on ${database.name}: ${problems.join('; ')}`);
    for (const [name, count] of Object.entries(reached[0]!)) {
      if (!found.has(name)) found.set(name, { name, count, setting });
    }
  }
  return [...found.values()];
}

export async function runCampaign(given: CampaignSettings): Promise<Campaign> {
  const { seed, databases, say } = given;
  const started = Date.now();
  const unit = unitOfBudgets();
  const pool = openPool(given.lanes + 1);
  const campaign: Campaign = {
    ...{ trials: 0, deaths: 0, spent: 0, charged: 0, underCounted: 0, overCounted: 0 },
    ...{ ends: {}, hits: {}, problems: [], seconds: 0 },
  };
  try {
    const catalogs: Record<string, Boundary[]> = {};
    for (const database of databases) {
      const catalog = await catalogOf(database, pool, unit);
      catalogs[database.name] = catalog;
      campaign.hits[database.name] = Object.fromEntries(catalog.map(({ name }) => [name, 0]));
      say(`${database.name}: ${catalog.length} boundaries`);
    }
    const names = databases.map(({ name }) => name);
    const pending = numbersToRun(given, names, catalogs, campaign);
    const lane = async (): Promise<void> => {
      for (const number of pending) {
        const trial = trialOf(seed, number, names, catalogs);
        const database = databases.find(({ name }) => name === trial.database)!;
        const result = await runTrial(trial, database, pool, unit).catch((error: unknown) => String(error));
        const problems = count(campaign, trial, result);
        for (const problem of problems) say(`FAILED ${problem}`);
        if (problems.length > 0 || given.only !== null) say(JSON.stringify(trial.experiments));
        if (campaign.trials % 25 === 0) say(progressOf(campaign, started));
      }
    };
    await Promise.all(Array.from({ length: given.lanes }, lane));
  } finally {
    pool.close();
  }
  campaign.seconds = (Date.now() - started) / 1000;
  return campaign;
}

/** In order; once there are enough trials, only those whose first kills are at boundaries that need more. */
function* numbersToRun(
  { seed, only, trials, most, hitsEach }: CampaignSettings,
  names: readonly DatabaseName[],
  catalogs: Readonly<Record<string, readonly Boundary[]>>,
  { hits }: Campaign,
): Generator<number> {
  if (only !== null) {
    yield only;
    return;
  }
  for (let number = 0, run = 0; run < most; number += 1) {
    if (run >= trials) {
      const isMissing = names.some((name) => missingOf(hits[name]!, hitsEach).length > 0);
      if (!isMissing) return;
      const name = names[number % names.length]!;
      const wanted = new Set(missingOf(hits[name]!, hitsEach));
      const targets = targetsOf(seed, number, catalogs[name]!, names.length);
      if (!targets.some((target) => wanted.has(target.name))) continue;
    }
    run += 1;
    yield number;
  }
}

export const missingOf = (hits: Readonly<Record<string, number>>, hitsEach: number): string[] =>
  Object.entries(hits).flatMap(([name, count]) =>
    count < hitsEach && name !== anywhere && name !== asleep ? [name] : [],
  );

/** Returns what went wrong. */
function count(campaign: Campaign, trial: Trial, result: TrialResult | string): string[] {
  campaign.trials += 1;
  const problems = typeof result === 'string' ? [result] : result.problems;
  const named = problems.map((problem) => `trial ${trial.name} (${trial.database}): ${problem}`);
  campaign.problems.push(...named);
  if (typeof result === 'string') return named;
  for (const name of ['deaths', 'spent', 'charged', 'underCounted', 'overCounted'] as const) {
    campaign[name] += result[name];
  }
  for (const end of result.ends) campaign.ends[end] = (campaign.ends[end] ?? 0) + 1;
  const hits = campaign.hits[trial.database]!;
  for (const hit of result.hits) hits[hit] = (hits[hit] ?? 0) + 1;
  return named;
}

const progressOf = ({ trials, deaths, problems }: Campaign, started: number): string =>
  `${trials} trials, ${deaths} processes killed, ${problems.length} problems, ${((Date.now() - started) / 1000).toFixed(0)} s`;
