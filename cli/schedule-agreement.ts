/** @file What each firing of a schedule may charge: agreed to once, when the schedule is made. */

import type { ScheduledSpec } from '../activities/contract.ts';
import { accountOf, chargesOf } from '../schemas/charges.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import { showEpsilon } from '../tracking/wording.ts';
import { isAgreedTo } from './confirm-spending.ts';

type Agreed = ScheduledSpec['agreed'];

/** @throws EpsilonflowError SPENDING_UNCONFIRMED */
export async function agreeToFirings(plan: Plan, agreed: boolean): Promise<Agreed> {
  const charges = mostCharged(plan);
  const lines = Object.entries(charges).map(([account, most]) => {
    const { budget } = plan.privacy[account]!;
    const bound = budget === null ? 'no budget bounds all firings together' : `its budget is ${budget}`;
    return `  ${account}: ${figure(most)}; ${bound}`;
  });
  if (lines.length === 0) return charges;
  process.stderr.write(`Each firing that finds no results to reuse charges up to:\n${lines.join('\n')}\n`);
  if (agreed || (await isAgreedTo('Spend this at each firing?'))) return charges;
  throw new EpsilonflowError('SPENDING_UNCONFIRMED', 'The schedule was not made: each of its firings may charge.', {
    hint: 'Give --spend to agree.',
  });
}

/** @throws EpsilonflowError SPENDING_UNCONFIRMED when a plan would charge more than was agreed to */
export function requireAgreed(plan: Plan, agreed: Agreed): void {
  const charges = mostCharged(plan);
  for (const account of accountsCharged(plan.nodes.filter(({ cached }) => cached !== true))) {
    const most = agreed[account];
    const charge = charges[account]!;
    if (most === null || (most !== undefined && charge !== null && charge <= most)) continue;
    const limit = most === undefined ? 'nothing' : figure(most);
    throw new EpsilonflowError(
      'SPENDING_UNCONFIRMED',
      `It would charge ${account} ${figure(charge)}; for a firing of this schedule ${limit} was agreed to.`,
      { hint: 'Delete the schedule and create it again to agree to what the spec asks for now.' },
    );
  }
}

const accountsCharged = (nodes: readonly PlanNode[]): Set<string> => new Set(nodes.flatMap(chargesOf).map(accountOf));

/** By account, epsilon of the whole plan, rounded up to tenths: data of another size differ in later digits. */
function mostCharged({ nodes, privacy }: Plan): Agreed {
  const figures = [...accountsCharged(nodes)].map((account): [string, number | null] => {
    const { experiment, unbounded } = privacy[account]!;
    return [account, unbounded > 0 ? null : Math.ceil(experiment * 10 - 1e-6) / 10];
  });
  return Object.fromEntries(figures);
}

const figure = (epsilon: number | null): string =>
  epsilon === null ? 'without bound (training without DP)' : `epsilon ${showEpsilon(epsilon)}`;
