/** @file Whether an envelope fits an account's budget. Pure: events in, verdict out. */

import { composedEpsilon, mergeEvents, rdpCurve, rdpEpsilonAt, type MechanismEvent } from '../accounting/index.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import type { Admission } from './ledger.ts';

/**
 * Orders of the filter. Each gets delta / (number of orders), so that the order which happens to fit may be picked
 * after the fact (union bound); a short list keeps that price at log(16) nats over alpha - 1.
 */
const filterOrders = [1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 11, 16, 24, 40, 63, 128, 512] as const;

/** What an account holds or an envelope asks: DP mechanisms, and how many that no epsilon bounds. */
export interface Spending {
  events: MechanismEvent[];
  unbounded: number;
}

/** One application of a planned mechanism, or null when unbounded. */
export function mechanismEvent(mechanism: Mechanism): MechanismEvent | null {
  if (mechanism.kind === 'unbounded') return null;
  const { samplingProbability, noiseMultiplier, steps } = mechanism;
  return { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count: steps };
}

export function spendingOf(mechanisms: readonly Mechanism[]): Spending {
  const events: MechanismEvent[] = [];
  let unbounded = 0;
  for (const mechanism of mechanisms) {
    const event = mechanismEvent(mechanism);
    if (event === null) unbounded += 1;
    else events.push(event);
  }
  return { events: mergeEvents(events), unbounded };
}

export const addSpending = (a: Spending, b: Spending): Spending => ({
  events: mergeEvents([...a.events, ...b.events]),
  unbounded: a.unbounded + b.unbounded,
});

/** Tight epsilon of a composition fixed beforehand; null when unbounded. */
export const spentEpsilon = (spending: Spending, delta: number): number | null =>
  spending.unbounded > 0 ? null : composedEpsilon(spending.events, delta).epsilon;

/**
 * Epsilon that the Renyi filter holds against a budget at `delta`; Infinity when unbounded. Sound for mechanisms and
 * experiments chosen adaptively (Feldman, Zrnic 2021; Lecuyer 2021): a budget of epsilon means for each order a fixed
 * Renyi budget, and the filter admits while at least one order keeps its own.
 */
export function filterEpsilon(spending: Spending, delta: number): number {
  if (spending.unbounded > 0) return Infinity;
  if (spending.events.length === 0) return 0;
  const curve = rdpCurve(spending.events, filterOrders);
  return Math.min(...filterOrders.map((order, i) => rdpEpsilonAt(order, curve[i]!, delta / filterOrders.length)));
}

export interface AdmissionQuestion {
  dataset: string;
  account: string;
  budget: number | null;
  delta: number;
  /** All that is reserved, begun or committed on the account, this workflow's earlier entries included. */
  held: Spending;
  /** Whether some of `held` belongs to another workflow. */
  shared: boolean;
  /** Entries to be added. */
  asked: Spending;
}

/** See `Admission.rule`. An account with a budget admits nothing unbounded. */
export function judge({ dataset, account, budget, delta, held, shared, asked }: AdmissionQuestion): Admission {
  const together = addSpending(held, asked);
  const figures = {
    dataset,
    account,
    budget,
    delta,
    before: spentEpsilon(held, delta),
    experiment: spentEpsilon(asked, delta),
    after: spentEpsilon(together, delta),
  };
  if (budget === null) return { ...figures, admitted: true, rule: 'recorded', decisive: null };
  const filtered = filterEpsilon(together, delta);
  if (!shared && figures.after !== null && figures.after <= budget) {
    return { ...figures, admitted: true, rule: 'fixed-plan', decisive: figures.after };
  }
  const decisive = shared ? filtered : Math.min(filtered, figures.after ?? Infinity);
  return {
    ...figures,
    admitted: decisive <= budget,
    rule: shared ? 'renyi-filter' : 'fixed-plan',
    decisive: Number.isFinite(decisive) ? decisive : null,
  };
}
