/**
 * @file Privacy-loss laws of single mechanisms: how log(P/Q) is distributed under P, for both directions of
 * add-or-remove-one adjacency. Dominating pairs of Poisson subsampling: Zhu, Dong, Wang 2022, theorem 11.
 */

import type { MechanismEvent } from './mechanism-event.ts';
import { logNormalTail, normalTailQuantile } from './special-functions.ts';

/** `remove`: P is the law with the record, Q without. `add`: the other way round. */
export type Direction = 'remove' | 'add';

/** A law of losses: atoms, and a density over a variable x in which the loss increases. */
export interface LossMeasure {
  /** Number of independent applications. */
  count: number;
  atoms: readonly { mass: number; loss: number }[];
  from: number;
  to: number;
  loss(x: number): number;
  /** x with that loss; outside [from, to] where there is none. */
  inverse(loss: number): number;
  /** Density of x under P. */
  density(x: number): number;
  /** Longest interval of x on which density and loss are polynomials as far as Gauss-Legendre rules can tell. */
  panel: number;
  /** Mass under P that the density holds left of x, and left of `from`. */
  below(x: number): number;
  /** Mass of losses above loss(to), left out of the density and counted as infinite loss. */
  above: number;
  /** Where a law has a density over the loss itself that is quick to tell. */
  lossDensity?: LossDensity;
}

/** Density under P of the loss, precise on the losses that `within` tells. */
export interface LossDensity {
  at(loss: number): number;
  /** Losses between which `step` of loss takes at most `width` of x. */
  within(step: number, width: number): { from: number; to: number };
}

/** Logarithms of the masses that may be cut off a law's ends. */
export interface Cut {
  low: number;
  high: number;
}

const INVERSE_SQRT_TWO_PI = 1 / Math.sqrt(2 * Math.PI);

/** log(1 + q (e^u - 1)), for any u. */
function mixtureLog(q: number, u: number): number {
  // e^u would vanish beside the 1 that there is not.
  if (q === 1) return u;
  return u < 30 ? Math.log1p(q * Math.expm1(u)) : u + Math.log(q) + Math.log1p(((1 - q) / q) * Math.exp(-u));
}

/** Inverse of `mixtureLog` in u; -Infinity at or below its infimum log(1 - q). */
function mixtureExponent(q: number, logMixture: number): number {
  if (q === 1) return logMixture;
  if (logMixture > 30) return logMixture - Math.log(q) + Math.log1p((q - 1) * Math.exp(-logMixture));
  const inner = Math.expm1(logMixture) / q;
  return inner > -1 ? Math.log1p(inner) : -Infinity;
}

/** Largest loss for which one normal density may stand for both of a mixture. */
const MODERATE = 30;

/**
 * The density over the loss of Poisson-sampled Gaussian noise. With A = exp(l) - 1 under `remove`, exp(-l) - 1 under
 * `add`, the likelihood ratio of the noise alone is 1 + A / q, and dx/dl = sigma^2 (1 + A) / (q + A).
 */
function gaussianLossDensity(q: number, sigma: number, direction: Direction): LossDensity {
  const variance = sigma * sigma;
  const sign = direction === 'remove' ? 1 : -1;
  const scale = sigma * INVERSE_SQRT_TWO_PI;
  const at = (loss: number): number => {
    const change = Math.expm1(sign * loss);
    const x = (variance * Math.log1p(change / q) + 0.5) / sigma;
    const stretched = (scale * Math.exp(-0.5 * x * x) * (1 + change)) / (q + change);
    return direction === 'remove' ? stretched * (1 + change) : stretched;
  };
  return {
    at,
    within: (step, width) => {
      // dx/dl falls as A grows. Where the ratio is near 0, A / q says too little of it.
      const steepest = (variance * step) / width;
      const least = steepest < 1 ? Math.log1p(-q) - Math.log1p(-steepest) : Infinity;
      const from = Math.max(Math.log1p(-0.9 * q), least);
      return direction === 'remove' ? { from, to: MODERATE } : { from: -MODERATE, to: -from };
    },
  };
}

const quantile = (logTail: number): number => normalTailQuantile(Math.min(-1, logTail));
const tail = (x: number): number => Math.exp(logNormalTail(x));

function gaussian(sigma: number, count: number, cut: Cut): LossMeasure {
  // Under P, x ~ N(1, sigma^2); the loss is linear. Both directions are mirror images.
  const from = 1 - sigma * quantile(cut.low);
  const to = 1 + sigma * quantile(cut.high);
  return {
    count,
    atoms: [],
    from,
    to,
    loss: (x) => (2 * x - 1) / (2 * sigma * sigma),
    inverse: (loss) => sigma * sigma * loss + 0.5,
    density: (x) => (INVERSE_SQRT_TWO_PI / sigma) * Math.exp(-0.5 * ((x - 1) / sigma) ** 2),
    panel: sigma / 4,
    below: (x) => tail((1 - x) / sigma),
    above: tail((to - 1) / sigma),
  };
}

function poissonGaussian(q: number, sigma: number, count: number, cut: Cut, direction: Direction): LossMeasure {
  const variance = sigma * sigma;
  const panel = Math.min(sigma / 4, variance / 2);
  const normal = (x: number): number => (INVERSE_SQRT_TWO_PI / sigma) * Math.exp(-0.5 * (x / sigma) ** 2);
  const from = -sigma * quantile(cut.low);
  const lossDensity = gaussianLossDensity(q, sigma, direction);
  if (direction === 'add') {
    // x is minus the mechanism's output, so that the loss increases in it.
    const to = sigma * quantile(cut.high);
    return {
      count,
      atoms: [],
      from,
      to,
      loss: (x) => -mixtureLog(q, (-2 * x - 1) / (2 * variance)),
      inverse: (loss) => -variance * mixtureExponent(q, -loss) - 0.5,
      density: normal,
      panel,
      below: (x) => tail(-x / sigma),
      above: tail(to / sigma),
      lossDensity,
    };
  }
  const high = cut.high - Math.LN2;
  const to = Math.max(sigma * quantile(high), 1 + sigma * quantile(high - Math.log(q)));
  return {
    count,
    atoms: [],
    from,
    to,
    loss: (x) => mixtureLog(q, (2 * x - 1) / (2 * variance)),
    inverse: (loss) => variance * mixtureExponent(q, loss) + 0.5,
    density: (x) => (1 - q) * normal(x) + q * normal(x - 1),
    panel,
    below: (x) => (1 - q) * tail(-x / sigma) + q * tail((1 - x) / sigma),
    above: (1 - q) * tail(to / sigma) + q * tail((to - 1) / sigma),
    lossDensity,
  };
}

/** Outside [0, 1] the loss of Laplace noise is constant: an atom at each end. q = 1: no subsampling. */
function laplace(q: number, scale: number, count: number, direction: Direction): LossMeasure {
  const far = Math.exp(-1 / scale) / 2;
  const lowest = mixtureLog(q, -1 / scale);
  const highest = mixtureLog(q, 1 / scale);
  const centred = (distance: number): number => Math.exp(-distance / scale) / (2 * scale);
  const shape = { count, panel: Math.min(scale, 1) / 8, above: 0 };
  if (direction === 'add') {
    return {
      ...shape,
      atoms: [
        { mass: far, loss: -highest },
        { mass: 0.5, loss: -lowest },
      ],
      from: -1,
      to: 0,
      loss: (x) => -mixtureLog(q, (-2 * x - 1) / scale),
      inverse: (loss) => (-scale * mixtureExponent(q, -loss) - 1) / 2,
      density: (x) => centred(-x),
      below: (x) => Math.max(0, Math.exp(x / scale) / 2 - far),
    };
  }
  return {
    ...shape,
    atoms: [
      { mass: (1 - q) / 2 + q * far, loss: lowest },
      { mass: (1 - q) * far + q / 2, loss: highest },
    ],
    from: 0,
    to: 1,
    loss: (x) => mixtureLog(q, (2 * x - 1) / scale),
    inverse: (loss) => (scale * mixtureExponent(q, loss) + 1) / 2,
    density: (x) => (1 - q) * centred(x) + q * centred(1 - x),
    below: (x) => (1 - q) * (0.5 - Math.exp(-x / scale) / 2) + q * Math.max(0, Math.exp((x - 1) / scale) / 2 - far),
  };
}

/**
 * A shift by 1 leaves discrete Laplace noise two losses, 1 / scale up to the old value and -1 / scale from the new one:
 * randomised response, the worst case of pure DP. Continuous Laplace noise of this scale loses less.
 */
function discreteLaplace(scale: number, count: number): LossMeasure {
  const loss = 1 / scale;
  return {
    count,
    atoms: [
      { mass: 1 / (1 + Math.exp(loss)), loss: -loss },
      { mass: 1 / (1 + Math.exp(-loss)), loss },
    ],
    from: 0,
    to: 0,
    loss: () => -loss,
    inverse: () => 0,
    density: () => 0,
    panel: 1,
    below: () => 0,
    above: 0,
  };
}

/** The loss law of one application of `event` in one direction; `event.count` of them are composed. */
export function lossMeasure(event: MechanismEvent, direction: Direction, cut: Cut): LossMeasure {
  switch (event.mechanism) {
    case 'gaussian':
      return gaussian(event.noiseMultiplier, event.count, cut);
    case 'poisson-gaussian':
      return poissonGaussian(event.samplingProbability, event.noiseMultiplier, event.count, cut, direction);
    case 'laplace':
      return laplace(1, event.scale, event.count, direction);
    case 'poisson-laplace':
      return laplace(event.samplingProbability, event.scale, event.count, direction);
    case 'discrete-laplace':
      return discreteLaplace(event.scale, event.count);
  }
}
