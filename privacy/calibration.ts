/** @file Chooses noise, steps or sampling probability for a target epsilon, always rounded to the safe side. Pure. */

import { EpsilonflowError } from '../schemas/errors.ts';
import {
  checkDelta,
  composedEpsilon,
  type Accountant,
  type ComposedEpsilon,
  type MechanismEvent,
} from './accounting/index.ts';

/** Bounds of what a search may return: outside them a target is refused as out of reach. */
const NOISE = { lowest: 0.05, highest: 1e5 } as const;
const MOST_STEPS = 1e8;
const LEAST_PROBABILITY = 1e-9;
/** Relative width to which noise and probability are narrowed down. */
const TOLERANCE = 1e-5;
/** Steps are counted exactly up to about a million; beyond, to this part. */
const STEP_TOLERANCE = 4e-7;

export interface CalibratedNoise {
  /** sigma, of six digits: epsilon(sigma) <= target, and about 2e-5 less (relative) would exceed it. */
  noiseMultiplier: number;
  epsilon: number;
  accountant: Accountant;
}

interface Target {
  targetEpsilon: number;
  delta: number;
  /** Default: the tighter of both. */
  accountant?: Accountant | undefined;
}

function checkTarget({ targetEpsilon, delta }: Target): void {
  checkDelta(delta);
  if (!(targetEpsilon > 0 && Number.isFinite(targetEpsilon))) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `The target epsilon must be positive, not ${targetEpsilon}.`);
  }
}

const unreachable = (what: string, target: Target): EpsilonflowError =>
  new EpsilonflowError(
    'ARGUMENT_INVALID',
    `No ${what} in range reaches epsilon ${target.targetEpsilon} at delta ${target.delta}.`,
    { hint: 'Raise epsilon, take fewer steps or a smaller batch.' },
  );

/** Search for the least x in [low, high] with excess(x) <= 0, excess falling; x and excess in logarithms. */
function leastSafe(low: number, high: number, tolerance: number, excess: (x: number) => number): number {
  let atLow = excess(low);
  if (atLow <= 0) return low;
  let atHigh = excess(high);
  if (atHigh > 0) return Infinity;
  let same = 0;
  while (high - low > tolerance) {
    // Illinois variant of the secant rule. Nearer to an end than a tolerance it would learn too little: there it probes
    // where the answer may end the search.
    const secant =
      Number.isFinite(atLow) && Number.isFinite(atHigh) ? (low * atHigh - high * atLow) / (atHigh - atLow) : NaN;
    const middle = (low + high) / 2;
    const aimed = Number.isNaN(secant) ? middle : secant + tolerance / 4;
    const margin = Math.min(0.9 * tolerance, middle - low);
    const x = Math.min(high - margin, Math.max(low + margin, aimed));
    const value = excess(x);
    if (value <= 0) {
      high = x;
      atHigh = value;
      if (same < 0) atLow /= 2;
      same = -1;
    } else {
      low = x;
      atLow = value;
      if (same > 0) atHigh /= 2;
      same = 1;
    }
  }
  return high;
}

/** Two points around the zero of a falling function, from a guess by growing strides; the range's end where it has none. */
function bracket(
  guess: number,
  stride: number,
  { lowest, highest }: Range,
  excess: (x: number) => number,
): [number, number] {
  let x = Math.min(highest, Math.max(lowest, guess));
  const first = excess(x);
  // Epsilon falls about as fast as x grows, or faster.
  const reach = Math.max(stride, Math.min(3, Math.abs(first)));
  if (first > 0) {
    for (let length = reach; x < highest; length *= 2) {
      const next = Math.min(highest, x + length);
      if (excess(next) <= 0) return [x, next];
      x = next;
    }
    return [highest, highest];
  }
  for (let length = reach; x > lowest; length *= 2) {
    const next = Math.max(lowest, x - length);
    if (excess(next) > 0) return [next, x];
    x = next;
  }
  return [lowest, lowest];
}

/** log of epsilon over target, at least -3: where nothing is spent a secant would learn nothing from -Infinity. */
const logExcess = (epsilon: number, target: number): number =>
  epsilon > 0 ? Math.max(-3, Math.log(epsilon / target)) : -3;

interface Range {
  lowest: number;
  highest: number;
}

interface Search {
  request: Target;
  /** Of the logarithm searched for, which epsilon falls with. */
  range: Range;
  guess: number;
  tolerance: number;
  eventAt: (x: number) => MechanismEvent;
}

/** Least x in the range that keeps the target, to `tolerance`; Infinity when there is none. */
function search({ request, range, guess, tolerance, eventAt }: Search): number {
  const { targetEpsilon, delta } = request;
  const excessOf =
    (accountant: Accountant | undefined) =>
    (x: number): number =>
      logExcess(composedEpsilon([eventAt(x)], delta, accountant).epsilon, targetEpsilon);
  // Renyi divergence is quick and from above, and the answer lies closely below its own.
  const quick = excessOf('rdp');
  const coarse = bracket(guess, 0.5, range, quick);
  if (request.accountant === 'rdp') return leastSafe(...coarse, tolerance, quick);
  const near = Math.min(range.highest, leastSafe(...coarse, 1e-2, quick));
  const excess = excessOf(request.accountant);
  return leastSafe(...bracket(near, 0.06, range, excess), tolerance, excess);
}

/** Where a Gaussian approximation puts q sqrt(2 T log(1/delta)) / (sigma epsilon) = 1, the unknown left out, as logarithm. */
const approximately = (factor: number, { targetEpsilon, delta }: Target): number =>
  Math.log((factor * Math.sqrt(-2 * Math.log(delta))) / targetEpsilon);

const calibrated = new Map<string, CalibratedNoise>();
const CACHE_SIZE = 1024;

/**
 * Least noise multiplier for `steps` steps of Poisson-sampled Gaussian noise: epsilon(sigma) <= targetEpsilon.
 * Throws ARGUMENT_INVALID when the arguments are out of range or no sigma up to 1e5 is enough.
 */
export function calibrateNoiseMultiplier(
  request: Target & { samplingProbability: number; steps: number },
): CalibratedNoise {
  checkTarget(request);
  const { targetEpsilon, delta, accountant, samplingProbability, steps } = request;
  const cacheKey = [targetEpsilon, delta, accountant, samplingProbability, steps].join('/');
  const known = calibrated.get(cacheKey);
  if (known) return known;
  const spent = (noiseMultiplier: number): ComposedEpsilon =>
    composedEpsilon(
      [{ mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count: steps }],
      delta,
      accountant,
    );
  const logSigma = search({
    request,
    range: { lowest: Math.log(NOISE.lowest), highest: Math.log(NOISE.highest) },
    // Near 1 where the approximation fails.
    guess: Math.max(Math.log(0.7), approximately(samplingProbability * Math.sqrt(steps), request)),
    tolerance: TOLERANCE,
    eventAt: (x) => ({
      mechanism: 'poisson-gaussian',
      samplingProbability,
      noiseMultiplier: Math.exp(x),
      count: steps,
    }),
  });
  if (logSigma === Infinity) throw unreachable('noise multiplier', request);
  // Few digits, so that a last bit of the machine's functions does not change content keys; up is the safe side. The
  // accountant's grid may make epsilon rise by a hair between neighbours, hence the check.
  const unit = 10 ** (Math.floor(logSigma / Math.LN10) - 5);
  let units = Math.ceil(Math.exp(logSigma) / unit);
  const rounded = (): number => Number((units * unit).toPrecision(6));
  while (spent(rounded()).epsilon > targetEpsilon) units += 1;
  const noiseMultiplier = rounded();
  const result = { noiseMultiplier, ...spent(noiseMultiplier) };
  if (calibrated.size >= CACHE_SIZE) calibrated.delete(calibrated.keys().next().value!);
  calibrated.set(cacheKey, result);
  return result;
}

/**
 * Most steps with epsilon <= targetEpsilon, at most 1e8; 0 when one step is too much already.
 * Throws ARGUMENT_INVALID for arguments out of range.
 */
export function calibrateSteps(
  request: Target & { samplingProbability: number; noiseMultiplier: number },
): { steps: number } & ComposedEpsilon {
  checkTarget(request);
  const { targetEpsilon, delta, accountant, samplingProbability, noiseMultiplier } = request;
  const spent = (count: number): ComposedEpsilon =>
    composedEpsilon(
      [{ mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count }],
      delta,
      accountant,
    );
  const countAt = (x: number): number => Math.round(Math.exp(-x));
  const logInverse = search({
    request,
    range: { lowest: -Math.log(MOST_STEPS), highest: 0 },
    guess: 2 * approximately(samplingProbability / noiseMultiplier, request),
    tolerance: STEP_TOLERANCE,
    eventAt: (x) => ({ mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count: countAt(x) }),
  });
  if (logInverse === Infinity) return { steps: 0, ...spent(0) };
  let steps = countAt(logInverse);
  while (steps < MOST_STEPS && spent(steps + 1).epsilon <= targetEpsilon) steps += 1;
  return { steps, ...spent(steps) };
}

/**
 * Greatest sampling probability with epsilon <= targetEpsilon, of six digits, about 2e-5 tight (relative).
 * Throws ARGUMENT_INVALID when none of at least 1e-9 is small enough.
 */
export function calibrateSamplingProbability(
  request: Target & { noiseMultiplier: number; steps: number },
): { samplingProbability: number } & ComposedEpsilon {
  checkTarget(request);
  const { targetEpsilon, delta, accountant, noiseMultiplier, steps } = request;
  const spent = (samplingProbability: number): ComposedEpsilon =>
    composedEpsilon(
      [{ mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count: steps }],
      delta,
      accountant,
    );
  const logInverse = search({
    request,
    range: { lowest: 0, highest: -Math.log(LEAST_PROBABILITY) },
    guess: approximately(Math.sqrt(steps) / noiseMultiplier, request),
    tolerance: TOLERANCE,
    eventAt: (x) => ({
      mechanism: 'poisson-gaussian',
      samplingProbability: Math.exp(-x),
      noiseMultiplier,
      count: steps,
    }),
  });
  if (logInverse === Infinity) throw unreachable('sampling probability', request);
  // Of six digits like the noise, here down.
  const unit = 10 ** (Math.floor(-logInverse / Math.LN10) - 5);
  let units = Math.floor(Math.exp(-logInverse) / unit);
  const rounded = (): number => Math.min(1, Number((units * unit).toPrecision(6)));
  while (spent(rounded()).epsilon > targetEpsilon) units -= 1;
  const samplingProbability = rounded();
  return { samplingProbability, ...spent(samplingProbability) };
}
