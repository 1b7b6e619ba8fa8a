/** @file The binomial distribution, accurate to the last digits far into its tails. */

const roundOff = 2 ** -53;

/** Probabilities of 0, 1 ... trials hits, and what they may err by, relative to themselves. */
export interface BinomialLaw {
  probabilities: Float64Array;
  relativeError: number;
}

/**
 * The law of hits among independent trials. Each probability is the product of ratios of neighbours from the likeliest on,
 * over their sum: positive numbers, so that errors don't grow but by a few roundings a factor.
 *
 * @param odds of a hit: p / (1 - p)
 */
export function binomialLaw(trials: number, odds: number): BinomialLaw {
  const probabilities = new Float64Array(trials + 1);
  const mode = Math.min(trials, Math.floor(((trials + 1) * odds) / (1 + odds)));
  probabilities[mode] = 1;
  for (let hits = mode; hits < trials; hits++) {
    probabilities[hits + 1] = probabilities[hits]! * (((trials - hits) / (hits + 1)) * odds);
  }
  for (let hits = mode; hits > 0; hits--) {
    probabilities[hits - 1] = probabilities[hits]! * (hits / (trials - hits + 1) / odds);
  }
  const total = probabilities.reduce((sum, each) => sum + each, 0);
  for (let hits = 0; hits <= trials; hits++) probabilities[hits]! /= total;
  return { probabilities, relativeError: 32 * (trials + 1) * roundOff };
}
