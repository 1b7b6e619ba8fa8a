/** @file Chooses noise, steps or sampling probability for a target epsilon, always rounded to the safe side. Pure. */

import { EpsilonflowError } from '../schemas/errors.ts';
import { checkDelta, composedEpsilon, type Accountant, type ComposedEpsilon } from './accounting/index.ts';

/** Bounds that a search may return: outside them a target is refused as out of reach. */
const NOISE_RANGE = { lowest: 0.05, highest: 1e5 } as const;
const MOST_STEPS = 1e8;
/** Relative width to which noise and probability are narrowed down. */
const TOLERANCE = 1e-5;
const LEAST_PROBABILITY = 1e-9;

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
    // Illinois variant of the secant rule, kept inside the bracket by half a tolerance so that it always shrinks.
    const secant =
      Number.isFinite(atLow) && Number.isFinite(atHigh) ? (low * atHigh - high * atLow) / (atHigh - atLow) : NaN;
    const aimed = Number.isNaN(secant) ? (low + high) / 2 : secant + tolerance / 4;
    const x = Math.min(high - tolerance / 4, Math.max(low + tolerance / 4, aimed));
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

/** Two points around the zero of a falling function, from a first guess by growing strides. */
function bracket(guess: number, stride: number, excess: (x: number) => number, request: Target): [number, number] {
  let x = guess;
  if (excess(x) > 0) {
    for (let next = x + stride; ; stride *= 2, next = x + stride) {
      if (Math.exp(next) > NOISE_RANGE.highest) throw unreachable('noise multiplier', request);
      if (excess(next) <= 0) return [x, next];
      x = next;
    }
  }
  for (let next = x - stride; ; stride *= 2, next = x - stride) {
    if (Math.exp(next) < NOISE_RANGE.lowest) return [Math.min(x, Math.log(NOISE_RANGE.lowest)), x];
    if (excess(next) > 0) return [next, x];
    x = next;
  }
}

/** log of epsilon over target, at least -3: where nothing is spent a secant would learn nothing from -Infinity. */
const logExcess = (epsilon: number, target: number): number =>
  epsilon > 0 ? Math.max(-3, Math.log(epsilon / target)) : -3;

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
  const excess = (logSigma: number): number => logExcess(spent(Math.exp(logSigma)).epsilon, targetEpsilon);

  // Renyi divergence is quick and from above, and the answer lies closely below its own.
  const renyi = (logSigma: number): number => {
    const event = {
      mechanism: 'poisson-gaussian',
      samplingProbability,
      noiseMultiplier: Math.exp(logSigma),
      count: steps,
    } as const;
    return logExcess(composedEpsilon([event], delta, 'rdp').epsilon, targetEpsilon);
  };
  // Where a Gaussian approximation would put it, or near 1 where that fails.
  const guess = Math.log(
    Math.max(0.7, (samplingProbability * Math.sqrt(-2 * steps * Math.log(delta))) / targetEpsilon),
  );
  const [coarseLow, coarseHigh] = bracket(Math.min(guess, 10), 0.5, renyi, request);
  const high = leastSafe(coarseLow, coarseHigh, accountant === 'rdp' ? TOLERANCE : 1e-2, renyi);
  const logSigma = accountant === 'rdp' ? high : leastSafe(...bracket(high, 0.06, excess, request), TOLERANCE, excess);
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
 * Most steps with epsilon <= targetEpsilon; 0 when one step is too much already.
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
  let low = 0;
  let high = 1;
  while (high <= MOST_STEPS && spent(high).epsilon <= targetEpsilon) {
    low = high;
    high *= 2;
  }
  if (high > MOST_STEPS) return { steps: low, ...spent(low) };
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (spent(middle).epsilon <= targetEpsilon) low = middle;
    else high = middle;
  }
  return { steps: low, ...spent(low) };
}

/**
 * Greatest sampling probability with epsilon <= targetEpsilon, about 1e-5 tight (relative).
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
  const logInverse = leastSafe(0, -Math.log(LEAST_PROBABILITY), TOLERANCE, (x) =>
    logExcess(spent(Math.exp(-x)).epsilon, targetEpsilon),
  );
  if (logInverse === Infinity) throw unreachable('sampling probability', request);
  const samplingProbability = Math.exp(-logInverse);
  return { samplingProbability, ...spent(samplingProbability) };
}
