/**
 * @file Auditing of differential privacy with one training run (Steinke, Nasr, Jagielski 2023, arXiv:2305.08846).
 *
 * Each of m canaries is put into the data by a coin of its own. Whoever sees the result alone guesses of some of them
 * whether they are in. Under (epsilon, delta)-DP for records that are added or removed, the number of right guesses is no
 * likelier to be large than theorem 5.2 says, whatever one canary's result tells of another's.
 */

import { binomialLaw } from './binomial.ts';

export interface GuessedCanaries {
  /** m: canaries that coins decided on. */
  canaries: number;
  /** r: guesses that were made. Their number may not depend on the coins. */
  guesses: number;
  /** v: guesses that are right. */
  correct: number;
}

/** Far more than underflow takes from sums of probabilities. */
const underflow = 1e-290;

/**
 * Greatest probability that any (epsilon, delta)-DP training leaves so many guesses right (theorem 5.2): with W binomial
 * of r trials of probability e^epsilon / (1 + e^epsilon), P(W >= v) + 2 m delta max over i of P(v > W >= v - i) / i.
 * Rounded up.
 */
export function guessProbability(
  { canaries, guesses, correct }: GuessedCanaries,
  epsilon: number,
  delta: number,
): number {
  const { probabilities, relativeError } = binomialLaw(guesses, Math.exp(epsilon));
  let reached = 0;
  for (let hits = guesses; hits >= correct; hits--) reached += probabilities[hits]!;
  let below = 0;
  let steepest = 0;
  // Beyond i = v nothing is added, and the quotient falls.
  for (let i = 1; i <= correct; i++) {
    below += probabilities[correct - i]!;
    steepest = Math.max(steepest, below / i);
  }
  return Math.min(1, (reached + 2 * canaries * delta * steepest + underflow) * (1 + relativeError));
}

export interface BoundSettings {
  delta: number;
  /** Most probability with which the bound may be wrong. */
  failure: number;
}

/**
 * A lower bound of epsilon at `delta`: no training with less would leave so many guesses right but with probability
 * `failure`. Every epsilon that was tried and refuted is a bound by itself, so that searching takes nothing from it.
 */
export function epsilonLowerBound(guessed: GuessedCanaries, { delta, failure }: BoundSettings): number {
  const isRefuted = (epsilon: number): boolean => guessProbability(guessed, epsilon, delta) < failure;
  if (!isRefuted(0)) return 0;
  let low = 0;
  let high = 1;
  while (isRefuted(high)) [low, high] = [high, 2 * high];
  for (let round = 0; round < 40; round++) {
    const middle = (low + high) / 2;
    if (isRefuted(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** Shares of the canaries that are guessed: fixed beforehand, and each tried at its part of the failure probability. */
const guessedShares = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1];

export interface OneRunAudit extends GuessedCanaries {
  /** Lower bound of epsilon. */
  epsilon: number;
  /** The bound if all guesses had been right: what so many canaries can show at most. */
  most: number;
}

/**
 * Guesses that the canaries with the highest scores are in and those with the lowest are not, as many of each, and bounds
 * epsilon from what is right. The best of several numbers of guesses is taken, at the union bound of their failures.
 *
 * @param scores of the canaries, larger for what training has seen; @param included 1 where the coin put it in
 */
export function auditOneRun(
  scores: Float64Array,
  included: Uint8Array,
  { delta, failure }: BoundSettings,
): OneRunAudit {
  const canaries = scores.length;
  const settings = { delta, failure: failure / guessedShares.length };
  // Of equal scores the earlier one is higher, which tells nothing of the coins.
  const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b);
  const audits = guessedShares.map((share): OneRunAudit => {
    const half = Math.floor((share * canaries) / 2);
    const highest = order.slice(0, half).filter((canary) => included[canary] === 1).length;
    const lowest = order.slice(canaries - half).filter((canary) => included[canary] === 0).length;
    const guessed = { canaries, guesses: 2 * half, correct: highest + lowest };
    const most = epsilonLowerBound({ ...guessed, correct: guessed.guesses }, settings);
    return { ...guessed, epsilon: epsilonLowerBound(guessed, settings), most };
  });
  const most = Math.max(...audits.map((audit) => audit.most));
  const best = audits.reduce((found, audit) => (audit.epsilon > found.epsilon ? audit : found), audits.at(-1)!);
  return { ...best, most };
}
