/** @file Which accounts a plan is charged to, for what, and what that comes to. */

import { accountOf, chargesOf, splitOfAccount, waivedAccountsOf } from '../schemas/charges.ts';
import type { Plan, PlanAccount, PlanNode } from '../schemas/plan.ts';
import type { AccountFigures, AccountRequest, CompileHost, PendingCharge } from './host.ts';
import { mechanismEvents } from './mechanisms.ts';

/** Every account that the plan may concern: of a dataset that is not public, and of a test split that it charges or waives. */
export function accountsOf(plan: Plan): string[] {
  const { datasets, nodes } = plan;
  const waived = nodes.flatMap((node) => waivedAccountsOf(node, plan).map(({ account }) => account));
  const charged = nodes.flatMap((node) => chargesOf(node).map(accountOf));
  const named = Object.values(datasets).flatMap(({ name, privacy }) => (privacy === null ? [] : [name]));
  return [...new Set([...named, ...charged, ...waived])].sort();
}

/** What is charged to an account; two nodes of one content key are one result, and charged once. */
export function chargesTo(account: string, nodes: readonly PlanNode[]): PendingCharge[] {
  const byKey = new Map<string, PendingCharge>();
  for (const node of nodes) {
    const charge = chargesOf(node).find((each) => accountOf(each) === account);
    if (charge !== undefined && !byKey.has(node.key)) byKey.set(node.key, { node, charge });
  }
  return [...byKey.values()];
}

export const accountRequest = (account: string, { datasets, nodes }: Plan): AccountRequest => ({
  account,
  dataset: datasets[splitOfAccount(account).dataset]!,
  pending: chargesTo(account, nodes).filter(({ node }) => node.cached !== true),
});

/** Epsilon of what a plan charges to an account, composed as fixed beforehand. It leaves out training without DP. */
export function plannedEpsilon(
  account: string,
  nodes: readonly PlanNode[],
  delta: number,
  { compose }: Pick<CompileHost, 'compose'>,
): number {
  return epsilonOf(chargesTo(account, nodes), delta, { compose });
}

function epsilonOf(
  charges: readonly PendingCharge[],
  delta: number,
  { compose }: Pick<CompileHost, 'compose'>,
): number {
  const events = mechanismEvents(charges.map(({ charge }) => charge));
  return events.length === 0 ? 0 : compose(events, delta).epsilon;
}

export function planAccount(
  { account, dataset }: AccountRequest,
  nodes: PlanNode[],
  figures: AccountFigures | undefined,
  host: CompileHost,
): PlanAccount {
  const { delta, budget } = dataset.privacy!;
  const charges = chargesTo(account, nodes);
  return {
    before: figures?.before ?? null,
    experiment: epsilonOf(charges, delta, host),
    after: figures?.after ?? null,
    budget: figures === undefined ? (budget?.epsilon ?? null) : figures.budget,
    delta,
    unbounded: charges.filter(({ charge }) => charge.mechanism.kind === 'unbounded').length,
    unboundedBefore: figures?.unboundedBefore ?? null,
    rule: figures?.rule ?? null,
  };
}
