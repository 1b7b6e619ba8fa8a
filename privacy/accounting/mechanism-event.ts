/** @file What an accountant counts: mechanisms of sensitivity 1, each applied `count` times to the same dataset. */

import { EpsilonflowError } from '../../schemas/errors.ts';

/** Gaussian noise on the sum over a Poisson sample: one step of DP-SGD. */
export interface PoissonGaussianEvent {
  mechanism: 'poisson-gaussian';
  /** Each record is in the sample with this probability, independently. In [0, 1]. */
  samplingProbability: number;
  /** Standard deviation over the sensitivity. */
  noiseMultiplier: number;
  count: number;
}

export interface GaussianEvent {
  mechanism: 'gaussian';
  noiseMultiplier: number;
  count: number;
}

export interface LaplaceEvent {
  mechanism: 'laplace';
  /** Scale b of the Laplace noise over the sensitivity. */
  scale: number;
  count: number;
}

export interface PoissonLaplaceEvent {
  mechanism: 'poisson-laplace';
  samplingProbability: number;
  scale: number;
  count: number;
}

/** Two-sided geometric noise on an integer: P(z) proportional to exp(-|z| / scale). */
export interface DiscreteLaplaceEvent {
  mechanism: 'discrete-laplace';
  scale: number;
  count: number;
}

export type MechanismEvent =
  PoissonGaussianEvent | GaussianEvent | LaplaceEvent | PoissonLaplaceEvent | DiscreteLaplaceEvent;

const fail = (message: string): never => {
  throw new EpsilonflowError('ARGUMENT_INVALID', message, {
    hint: 'Events look like {"mechanism":"poisson-gaussian","samplingProbability":0.01,"noiseMultiplier":1,"count":1000}.',
  });
};

const finite = (value: unknown, name: string, lowest: number, highest: number): number => {
  if (typeof value !== 'number' || !(value >= lowest && value <= highest)) {
    return fail(`${name} must be a number from ${lowest} to ${highest}, not ${JSON.stringify(value)}.`);
  }
  return value;
};

// Outside these ranges double precision no longer carries the formulas; such noise has no use either.
const noise = (value: unknown, name: string): number => finite(value, name, 0.01, 1e6);
const probability = (value: unknown): number => finite(value, 'samplingProbability', 0, 1);

function count(value: unknown): number {
  const checked = finite(value, 'count', 0, 1e9);
  return Number.isInteger(checked) ? checked : fail(`count must be a whole number, not ${checked}.`);
}

/** Checks one event that came from outside. Throws ARGUMENT_INVALID. */
export function checkEvent(value: unknown): MechanismEvent {
  if (typeof value !== 'object' || value === null) return fail('An event must be an object.');
  const event = value as Record<string, unknown>;
  switch (event['mechanism']) {
    case 'poisson-gaussian':
      return {
        mechanism: 'poisson-gaussian',
        samplingProbability: probability(event['samplingProbability']),
        noiseMultiplier: noise(event['noiseMultiplier'], 'noiseMultiplier'),
        count: count(event['count'] ?? 1),
      };
    case 'gaussian':
      return {
        mechanism: 'gaussian',
        noiseMultiplier: noise(event['noiseMultiplier'], 'noiseMultiplier'),
        count: count(event['count'] ?? 1),
      };
    case 'laplace':
      return {
        mechanism: 'laplace',
        scale: noise(event['scale'], 'scale'),
        count: count(event['count'] ?? 1),
      };
    case 'poisson-laplace':
      return {
        mechanism: 'poisson-laplace',
        samplingProbability: probability(event['samplingProbability']),
        scale: noise(event['scale'], 'scale'),
        count: count(event['count'] ?? 1),
      };
    case 'discrete-laplace':
      return {
        mechanism: 'discrete-laplace',
        scale: noise(event['scale'], 'scale'),
        count: count(event['count'] ?? 1),
      };
    default:
      return fail(`Unknown mechanism ${JSON.stringify(event['mechanism'])}.`);
  }
}

/** Throws ARGUMENT_INVALID unless 0 < delta < 1. */
export function checkDelta(delta: number): number {
  return delta > 0 && delta < 1 ? delta : fail(`delta must lie strictly between 0 and 1, not ${delta}.`);
}

/** Names the mechanism without its count: events with one key merge by adding counts. */
export function eventKey(event: MechanismEvent): string {
  switch (event.mechanism) {
    case 'poisson-gaussian':
      return `poisson-gaussian/${event.samplingProbability}/${event.noiseMultiplier}`;
    case 'gaussian':
      return `gaussian/${event.noiseMultiplier}`;
    case 'laplace':
      return `laplace/${event.scale}`;
    case 'poisson-laplace':
      return `poisson-laplace/${event.samplingProbability}/${event.scale}`;
    case 'discrete-laplace':
      return `discrete-laplace/${event.scale}`;
  }
}

/** Without subsampling where the probability is 1; null where nothing is ever sampled or run. */
function plain(event: MechanismEvent): MechanismEvent | null {
  if (event.count === 0) return null;
  if (event.mechanism === 'poisson-gaussian' || event.mechanism === 'poisson-laplace') {
    if (event.samplingProbability === 0) return null;
    if (event.samplingProbability < 1) return event;
    return event.mechanism === 'poisson-gaussian'
      ? { mechanism: 'gaussian', noiseMultiplier: event.noiseMultiplier, count: event.count }
      : { mechanism: 'laplace', scale: event.scale, count: event.count };
  }
  return event;
}

/**
 * The same composition in fewest events, in a fixed order, each checked: equal mechanisms merged, probabilities 0 and
 * 1 resolved. The order of composition does not matter to any accountant here, so neither does that of `events`.
 */
export function mergeEvents(events: readonly MechanismEvent[]): MechanismEvent[] {
  const merged = new Map<string, MechanismEvent>();
  for (const raw of events) {
    const event = plain(checkEvent(raw));
    if (event === null) continue;
    const key = eventKey(event);
    const previous = merged.get(key);
    merged.set(key, previous ? { ...previous, count: previous.count + event.count } : event);
  }
  return [...merged.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, event]) => event);
}
