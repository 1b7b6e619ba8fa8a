/** @file Whether an envelope fits an account's budget. Pure: events in, verdict out. */

import {
  composedEpsilon,
  mergeEvents,
  rdpCurve,
  rdpEpsilonAt,
  type Accountant,
  type MechanismEvent,
} from '../accounting/index.ts';
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

/** A mechanism as it was planned, all its steps together; null when unbounded. */
export function mechanismEvent(mechanism: Mechanism): MechanismEvent | null {
  const event = applicationEvent(mechanism);
  return event && { ...event, count: applicationsOf(mechanism) };
}

/** One application of a planned mechanism, one step of training; null when unbounded. */
export function applicationEvent(mechanism: Mechanism): MechanismEvent | null {
  if (mechanism.kind === 'unbounded') return null;
  if (mechanism.kind === 'discrete-laplace') return { mechanism: mechanism.kind, scale: mechanism.scale, count: 1 };
  const { samplingProbability, noiseMultiplier } = mechanism;
  return { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count: 1 };
}

/** How many applications a mechanism plans. */
export const applicationsOf = (mechanism: Mechanism): number =>
  mechanism.kind === 'poisson-gaussian' ? mechanism.steps : 1;

/** Some applications of a mechanism. */
export interface Charge {
  mechanism: Mechanism;
  applications: number;
}

export function spendingOf(charges: Iterable<Charge>): Spending {
  const events: MechanismEvent[] = [];
  let unbounded = 0;
  for (const { mechanism, applications } of charges) {
    const event = applicationEvent(mechanism);
    if (event === null) unbounded += applications;
    else events.push({ ...event, count: applications });
  }
  return { events: mergeEvents(events), unbounded };
}

export const addSpending = (a: Spending, b: Spending): Spending => ({
  events: mergeEvents([...a.events, ...b.events]),
  unbounded: a.unbounded + b.unbounded,
});

/** An entry of a plan that was fixed before any of it began, and how many of its steps ran again from other states. */
export interface PlannedEntry {
  mechanism: Mechanism;
  repeated: number;
}

/**
 * What bounds a whole fixed plan, whichever of its steps are repeated: which ones is known only as it runs, so each
 * repetition counts as a mechanism that dominates every step of the plan (a larger sampling probability dominates a
 * smaller one, and less noise more, since the weaker can be made from the stronger). Null when there is no such bound:
 * something else than training was repeated.
 */
export function planSpending(entries: readonly PlannedEntry[]): Spending | null {
  const planned = spendingOf(entries.map(({ mechanism }) => ({ mechanism, applications: applicationsOf(mechanism) })));
  let repeated = 0;
  let samplingProbability = 0;
  let noiseMultiplier = Infinity;
  for (const { mechanism, repeated: times } of entries) {
    if (mechanism.kind === 'poisson-gaussian') {
      repeated += times;
      samplingProbability = Math.max(samplingProbability, mechanism.samplingProbability);
      noiseMultiplier = Math.min(noiseMultiplier, mechanism.noiseMultiplier);
    } else if (times > 0 && mechanism.kind !== 'unbounded') {
      return null;
    }
  }
  if (repeated === 0) return planned;
  const strongest = { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count: repeated } as const;
  return addSpending(planned, { events: [strongest], unbounded: 0 });
}

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

/**
 * The figure for all that an account holds: what the filter counts, or the tight figure of the fixed plan that has the
 * account to itself, whichever is less; epsilon is null when unbounded.
 */
export function accountFigure(
  held: Spending,
  plan: Spending | null,
  delta: number,
): { epsilon: number | null; accountant: Accountant | null } {
  if (held.unbounded > 0) return { epsilon: null, accountant: null };
  const filtered = filterEpsilon(held, delta);
  if (plan === null || plan.unbounded > 0) return { epsilon: filtered, accountant: 'rdp' };
  const tight = composedEpsilon(plan.events, delta);
  return tight.epsilon <= filtered ? tight : { epsilon: filtered, accountant: 'rdp' };
}

export interface AdmissionQuestion {
  dataset: string;
  account: string;
  budget: number | null;
  delta: number;
  /** All that is charged on the account now. */
  held: Spending;
  /** What is to be added. */
  asked: Spending;
  /** The whole of the fixed plan that has the account to itself now; null without one. */
  heldPlan: Spending | null;
  /** The same once `asked` is added, given back parts and all; null when it is not fixed or not alone. */
  plan: Spending | null;
  /**
   * Whether the tight figure of `plan` may decide. Which of the two rules guards a plan must be settled before any of
   * it begins: left open, the guarantee would be at twice delta.
   */
  isTightOpen: boolean;
}

export interface Decision {
  admitted: boolean;
  /** `fixed-plan` only where the filter would refuse. */
  by: Admission['rule'];
}

/** The rule itself, without figures for people: it computes the tight one only where the filter refuses. */
export function decide({ budget, delta, held, asked, plan, isTightOpen }: AdmissionQuestion): Decision {
  if (budget === null) return { admitted: true, by: 'recorded' };
  if (filterEpsilon(addSpending(held, asked), delta) <= budget) return { admitted: true, by: 'renyi-filter' };
  if (plan === null || !isTightOpen) return { admitted: false, by: 'renyi-filter' };
  const tight = spentEpsilon(plan, delta);
  return { admitted: tight !== null && tight <= budget, by: 'fixed-plan' };
}

/** See `Admission.rule`. An account with a budget admits nothing unbounded. */
export function judge(question: AdmissionQuestion): Admission {
  const { dataset, account, budget, delta, held, asked, heldPlan, plan, isTightOpen } = question;
  const together = addSpending(held, asked);
  const after = accountFigure(together, plan, delta).epsilon;
  const rule = plan !== null && isTightOpen ? 'fixed-plan' : 'renyi-filter';
  const filtered = filterEpsilon(together, delta);
  return {
    dataset,
    account,
    budget,
    delta,
    before: accountFigure(held, heldPlan, delta).epsilon,
    experiment: spentEpsilon(asked, delta),
    after,
    admitted: decide(question).admitted,
    rule: budget === null ? 'recorded' : rule,
    decisive: budget === null ? null : rule === 'fixed-plan' ? after : Number.isFinite(filtered) ? filtered : null,
  };
}
