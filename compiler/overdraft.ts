/**
 * @file What a plan would overdraw: by how much, from which instance on, and the smallest changes that fit. Each change
 * is found by search over plans that are judged by the very rule that refused.
 */

import { EpsilonflowError, type Position } from '../schemas/errors.ts';
import type { Plan, PlanAccount } from '../schemas/plan.ts';
import { smallerPlans, type Judge, type PlanChange, type Verdict } from './smaller-plans.ts';
import type { AccountFigures, AccountRequest, CompileHost, PendingCharge } from './host.ts';
import { mechanismEvents } from './mechanisms.ts';

export interface Overdraft {
  account: string;
  budget: number;
  /** What the rule counts for the account with this plan; null: nothing bounds it. */
  epsilon: number | null;
  excess: number | null;
  /** Budget that is left before this plan; null when it is not known. */
  left: number | null;
  /** The first instance, in the plan's order, that no longer fits, and the place of its step. */
  instance: string;
  position: Position;
  /** Those that lose fewest instances first. */
  changes: PlanChange[];
}

const verdictOf = ({ admitted, decisive }: AccountFigures): Verdict => ({ admitted, epsilon: decisive });

/** The ledger's rule; offline the charges alone, composed, against the budget. */
function judgeOf(request: AccountRequest, budget: number, plan: Plan, host: CompileHost): Judge {
  if (host.accounts === null) {
    return (pending) => {
      const charges = pending.map(({ charge }) => charge);
      if (charges.some(({ mechanism }) => mechanism.kind === 'unbounded')) {
        return Promise.resolve({ admitted: false, epsilon: null });
      }
      const { epsilon } = host.compose(mechanismEvents(charges), request.dataset.privacy!.delta);
      return Promise.resolve({ admitted: epsilon <= budget, epsilon });
    };
  }
  const ask = host.accounts.bind(host);
  return async (pending) => {
    const [figures] = await ask([{ ...request, pending }], { experiment: plan.name, shown: [] });
    return verdictOf(figures!);
  };
}

/** How many of the charges, in order, fit: less than all of them. */
async function fitting(pending: readonly PendingCharge[], judge: Judge): Promise<number> {
  let fits = 0;
  let refused = pending.length;
  while (refused - fits > 1) {
    const middle = Math.floor((fits + refused) / 2);
    if ((await judge(pending.slice(0, middle))).admitted) fits = middle;
    else refused = middle;
  }
  return fits;
}

/** Null when the account admits the plan. */
export async function overdraftOf(
  request: AccountRequest,
  { budget, before }: PlanAccount,
  figures: AccountFigures | undefined,
  plan: Plan,
  host: CompileHost,
): Promise<Overdraft | null> {
  const { account, pending } = request;
  if (budget === null || pending.length === 0) return null;
  const judge = judgeOf(request, budget, plan, host);
  const { admitted, epsilon } = figures === undefined ? await judge(pending) : verdictOf(figures);
  if (admitted) return null;
  const { node } = pending[await fitting(pending, judge)]!;
  return {
    account,
    budget,
    epsilon,
    excess: epsilon === null ? null : epsilon - budget,
    left: before === null ? null : Math.max(0, budget - before),
    instance: node.id,
    position: node.position,
    changes: await smallerPlans(request, budget, plan.nodes, judge, host),
  };
}

const figure = (epsilon: number): string => (epsilon === 0 ? '0' : epsilon.toPrecision(4).replace(/\.?0+$/, ''));

function changeText(change: PlanChange): string {
  const result = ` (epsilon ${figure(change.epsilon)})`;
  switch (change.change) {
    case 'lower-epsilon':
      return `${change.epsilons.map(({ from, to }) => `epsilon ${to} instead of ${from}`).join(', ')}${result}`;
    case 'fewer-seeds': {
      const { keep, drop, axis } = change;
      return `the first ${keep.length} of ${keep.length + drop.length} values of "${axis}"${result}`;
    }
    case 'fewer-epsilons':
      return `no ${change.drop.join(', ')} in "${change.axis}"${result}`;
  }
}

/** BUDGET_REFUSED, at the place of the step that no longer fits. */
export function refusal({
  account,
  budget,
  epsilon,
  excess,
  left,
  instance,
  position,
  changes,
}: Overdraft): EpsilonflowError {
  const over =
    epsilon === null || excess === null
      ? 'training without DP has no bound'
      : `epsilon ${figure(epsilon)} would exceed it by ${figure(excess)}`;
  const rest = left === null ? '' : `${figure(left)} is left. `;
  const advice =
    changes.length === 0
      ? 'No smaller plan of this matrix fits: raise the budget.'
      : `The smallest changes that fit: ${changes.map(changeText).join('; or ')}. Or raise the budget.`;
  return new EpsilonflowError(
    'BUDGET_REFUSED',
    `Dataset "${account}" has a budget of ${figure(budget)}: ${over}; ${instance} is the first that does not fit`,
    { hint: rest + advice, position },
  );
}
