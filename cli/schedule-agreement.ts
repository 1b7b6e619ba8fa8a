/** @file What each firing of a schedule may charge and show: agreed to once, when the schedule is made. */

import type { AgreedAccount, ScheduledSpec } from '../activities/contract.ts';
import { type Compiled, plannedEpsilon } from '../compiler/index.ts';
import { composedEpsilon } from '../privacy/accounting/index.ts';
import { accountOf, chargesOf, splitOfAccount, waivedAccountsOf } from '../schemas/charges.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import { showEpsilon } from '../tracking/wording.ts';
import { isAgreedTo } from './confirm-spending.ts';

type Agreed = Record<string, AgreedAccount>;

/** What the agreement is made of. */
type AskedPlan = Pick<Compiled, 'plan' | 'ledgerAccounts'>;

/** @throws EpsilonflowError SPENDING_UNCONFIRMED */
export async function agreeToFirings(compiled: AskedPlan, agreed: boolean): Promise<Agreed> {
  const asked = mostAsked(compiled);
  const lines = Object.entries(asked).flatMap(([account, most]) => linesOf(account, most, compiled.plan));
  if (lines.length === 0) return asked;
  process.stderr.write(
    'Each firing that finds no results to reuse charges up to (as planned: the account may count more, for steps ' +
      `that are repeated and for plans that follow each other):\n${lines.join('\n')}\n`,
  );
  if (agreed || (await isAgreedTo('Agree to this for each firing?'))) return asked;
  throw new EpsilonflowError('SPENDING_UNCONFIRMED', 'The schedule was not made: each of its firings may charge.', {
    hint: 'Give --spend to agree.',
  });
}

function linesOf(account: string, most: AgreedAccount, { privacy }: Plan): string[] {
  const { budget } = privacy[account]!;
  const bound = budget === null ? 'no budget bounds all firings together' : `its budget is ${budget}`;
  const of = most.ledgerAccount === account ? '' : `, account ${most.ledgerAccount} of the ledger`;
  return [
    `  ${account} (${most.sensitivity}${of}): ${figure(most.epsilon)} at delta ${most.delta.toExponential(2)}; ${bound}`,
    ...most.waivers.map((waiver) => `    exact figures of its records leave besides, under the waiver ${waiver}`),
  ];
}

/** @throws EpsilonflowError SPENDING_UNCONFIRMED when a plan would charge or show more than was agreed to */
export function requireAgreed(compiled: AskedPlan, agreed: ScheduledSpec['agreed']): void {
  const { nodes, datasets } = compiled.plan;
  for (const [account, most] of Object.entries(agreed)) {
    const now = datasets[splitOfAccount(account).dataset]?.sensitivity;
    if (typeof most !== 'object' || most === null || now === undefined || now === most.sensitivity) continue;
    throw beyond(`${account} was agreed to as ${most.sensitivity}; now it is ${now}`);
  }
  const charged = accountsCharged(nodes.filter(({ cached }) => cached !== true));
  for (const [account, asked] of Object.entries(mostAsked(compiled))) {
    // What is reused is not charged, but its waivers are recorded once more.
    if (!charged.has(account) && asked.waivers.length === 0) continue;
    const excess = excessOf(account, asked, agreed[account], nodes);
    if (excess !== null) throw beyond(excess);
  }
}

const beyond = (excess: string): EpsilonflowError =>
  new EpsilonflowError('SPENDING_UNCONFIRMED', `For a firing of this schedule ${excess}.`, {
    hint: 'Delete the schedule and create it again to agree to what the spec asks for now.',
  });

/** What goes beyond the agreement on an account, in words; null for nothing. */
function excessOf(
  account: string,
  asked: AgreedAccount,
  most: ScheduledSpec['agreed'][string] | undefined,
  nodes: readonly PlanNode[],
): string | null {
  if (typeof most !== 'object' || most === null) {
    return `nothing was agreed to for ${account}, where it would charge ${figure(asked.epsilon)}`;
  }
  if (asked.ledgerAccount !== most.ledgerAccount) {
    return `account ${most.ledgerAccount} of the ledger was agreed to; the records of ${account} belong to account ${asked.ledgerAccount} now`;
  }
  const added = asked.waivers.filter((waiver) => !most.waivers.includes(waiver));
  if (added.length > 0) return `exact figures of ${account} were not agreed to, which ${added.join(', ')} waives`;
  if (most.epsilon === null) return null;
  const limit = `${figure(most.epsilon)} at delta ${most.delta.toExponential(2)} was agreed to for ${account}`;
  if (asked.epsilon === null) return `${limit}; it would charge ${figure(null)}`;
  // At a larger delta the same noise has a smaller epsilon.
  const delta = Math.min(asked.delta, most.delta);
  const epsilon = inTenths(plannedEpsilon(account, nodes, delta, { compose: composedEpsilon }));
  return epsilon <= most.epsilon
    ? null
    : `${limit}; it would charge ${figure(epsilon)} at delta ${delta.toExponential(2)}`;
}

const accountsCharged = (nodes: readonly PlanNode[]): Set<string> => new Set(nodes.flatMap(chargesOf).map(accountOf));

/** By account that the whole plan charges or shows exact figures of. */
function mostAsked({ plan, ledgerAccounts }: AskedPlan): Agreed {
  const waived = plan.nodes.flatMap((node) => waivedAccountsOf(node, plan));
  const accounts = new Set([...accountsCharged(plan.nodes), ...waived.map(({ account }) => account)]);
  const waiversOf = (account: string): string[] =>
    [...new Set(waived.filter((each) => each.account === account).map(({ waiver }) => waiver))].sort();
  return Object.fromEntries(
    [...accounts].sort().map((account): [string, AgreedAccount] => {
      const { experiment, unbounded, delta } = plan.privacy[account]!;
      const epsilon = unbounded > 0 ? null : inTenths(experiment);
      const { sensitivity } = plan.datasets[splitOfAccount(account).dataset]!;
      const ledgerAccount = ledgerAccounts.get(account)!;
      return [account, { epsilon, delta, ledgerAccount, sensitivity, waivers: waiversOf(account) }];
    }),
  );
}

/** Rounded up: data of another size differ in later digits. */
const inTenths = (epsilon: number): number => Math.ceil(epsilon * 10 - 1e-6) / 10;

const figure = (epsilon: number | null): string =>
  epsilon === null ? 'without bound (training without DP)' : `epsilon ${showEpsilon(epsilon)}`;
