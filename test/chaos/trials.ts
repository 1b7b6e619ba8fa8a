/** @file What happens in a chaos trial, as a function of seed and number alone. */

import { seededRandom } from '../privacy/seeded-random.ts';

/** What becomes of an experiment whose process was killed. */
export type Aftermath =
  | 'go on'
  | 'abandon'
  | 'lose key'
  | 'lose checkpoints'
  /** Key and checkpoints. */
  | 'lose run state'
  /** The next process computes another state from the same checkpoint. */
  | 'another state';

export interface Death {
  at: { boundary: string; count: number } | { afterMilliseconds: number };
  then: Aftermath;
  /** It is not killed there but stopped, and wakes so many milliseconds after another process has gone on. */
  sleeps?: number;
}

/** Where a process can be killed, as found by letting one live undisturbed after `setting`. */
export interface Boundary {
  name: string;
  /** How often it is reached. */
  count: number;
  setting: readonly Death[];
}

export interface TrialExperiment {
  name: string;
  /** Which nodes of the plan. */
  pair: number;
  deaths: Death[];
  runSecret: string | null;
  /** Whether Temporal remembers what it has done. Otherwise each process does everything again. */
  isRemembered: boolean;
  /** Starts when the other's first process has ended. */
  waits: boolean;
}

export type DatabaseName = 'SQLite' | 'PostgreSQL';

export interface Trial {
  name: string;
  database: DatabaseName;
  /** Epsilon of each account, in units of what one experiment costs by the Renyi filter. */
  budget: number;
  experiments: TrialExperiment[];
}

export const pairs = 2;

/** Lets a process live through everything, so that it reaches all boundaries. */
export const settings: readonly (readonly Death[])[] = [
  [],
  // The fourth step of the first node: two steps after its checkpoint, which run again from another state.
  [{ at: { boundary: 'step: done', count: 4 }, then: 'another state' }],
  [{ at: { boundary: 'step: done', count: 3 }, then: 'lose key' }],
];

const afterwards: readonly (readonly [Aftermath, number])[] = [
  ['go on', 0.5],
  ['another state', 0.14],
  ['lose checkpoints', 0.1],
  ['lose key', 0.1],
  ['lose run state', 0.06],
  ['abandon', 0.1],
];

/** Inside a transaction it would keep all others waiting; and each other boundary is still killed at most times. */
const maySleepAt = (boundary: string): boolean =>
  /^(step|publish|attempt|checkpoint): |^(begin|record|commit): (asked|durable)$/.test(boundary);

/** Numbers of trials, seeds and positions mixed, so that neighbours have nothing in common (SplitMix32's finaliser). */
function mixed(seed: number, number: number): number {
  let value = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b)) >>> 0;
  value = Math.imul(value ^ (value >>> 16), 0x21f0aaad);
  value = Math.imul(value ^ (value >>> 15), 0x735a2d97);
  return (value ^ (value >>> 15)) >>> 0;
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const all = [...items];
  for (let last = all.length - 1; last > 0; last -= 1) {
    const at = Math.floor(random() * (last + 1));
    [all[last], all[at]] = [all[at]!, all[last]!];
  }
  return all;
}

function weighted<T>(choices: readonly (readonly [T, number])[], random: () => number): T {
  let left = random() * choices.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [choice, weight] of choices) {
    left -= weight;
    if (left < 0) return choice;
  }
  return choices[0]![0];
}

/** The boundaries that the experiments of a trial are killed at first: all of them in turn, two a trial. */
export function targetsOf(seed: number, number: number, catalog: readonly Boundary[], databases: number): Boundary[] {
  const turn = Math.floor(number / databases) * 2;
  return [turn, turn + 1].map((at) => {
    const round = Math.floor(at / catalog.length);
    const order = shuffled(catalog, seededRandom(mixed(seed, 1_000_000 + round)));
    return order[at % catalog.length]!;
  });
}

/** @param catalog boundaries of the trial's database */
export function trialOf(
  seed: number,
  number: number,
  databases: readonly DatabaseName[],
  catalogs: Readonly<Record<string, readonly Boundary[]>>,
): Trial {
  const random = seededRandom(mixed(seed, number));
  const database = databases[number % databases.length]!;
  const catalog = catalogs[database]!;
  const targets = targetsOf(seed, number, catalog, databases.length);
  const upTo = (count: number): number => 1 + Math.floor(random() * count);
  const kill = ({ name, count }: Boundary): Death => {
    const death: Death = { at: { boundary: name, count: upTo(count) }, then: weighted(afterwards, random) };
    return random() < 0.25 && maySleepAt(name)
      ? { ...death, then: 'go on', sleeps: Math.floor(random() * 400) }
      : death;
  };
  const samePair = random() < 0.15;
  const opens = (target: Boundary): boolean => target.name.startsWith('open: ');
  const experiments = targets.map((target, place): TrialExperiment => {
    const deaths = [...target.setting, kill(target)];
    while (random() < 0.35 && deaths.length < 4) {
      const anywhere: Death = {
        at: { afterMilliseconds: Math.floor(random() * 250) },
        then: weighted(afterwards, random),
      };
      deaths.push(random() < 0.25 ? anywhere : kill(catalog[Math.floor(random() * catalog.length)]!));
    }
    return {
      name: `experiment-${place + 1}`,
      pair: samePair ? 0 : place,
      deaths,
      runSecret: random() < 0.15 ? 'a secret that all workers of an experiment share' : null,
      isRemembered: random() < 0.6 || samePair,
      waits: place === 1 && opens(targets[0]!) && !opens(target),
    };
  });
  // The one that makes the ledger has to be first.
  if (opens(targets[1]!) && !opens(targets[0]!)) experiments[0]!.waits = true;
  const budget = weighted(
    [
      [0.7, 0.06],
      [1.02, 0.12],
      [1.5, 0.1],
      [2.1, 0.12],
      [20, 0.6],
    ],
    random,
  );
  return { name: `${seed}:${number}`, database, budget, experiments };
}
