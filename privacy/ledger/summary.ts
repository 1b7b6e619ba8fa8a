/** @file What an account has spent, from its entries: for people, reports and `ledger show`. */

import { composedEpsilon } from '../accounting/index.ts';
import { accountFigure, addSpending, applicationsOf, filterEpsilon, spendingOf, type Spending } from './admission.ts';
import { acknowledgedLosses } from './continuity.ts';
import type { AccountSummary, EntryState, ExperimentSpending } from './ledger.ts';
import { mechanismOf, planOf } from './reservation.ts';
import { waiversOf } from './waivers.ts';
import type { LedgerTransaction } from './writer.ts';

const nothing: Spending = { events: [], unbounded: 0 };

interface Experiment {
  line: Pick<ExperimentSpending, 'experiment' | 'workflowId' | 'repeatedSteps' | 'entries'>;
  committed: Spending;
  reserved: Spending;
  /** Its mechanisms as planned, whatever became of them. */
  planned: Spending;
}

/** Null when there is no such account. */
export async function summarise(transaction: LedgerTransaction, name: string): Promise<AccountSummary | null> {
  const account = await transaction.selectFrom('accounts').selectAll().where('name', '=', name).executeTakeFirst();
  if (account === undefined) return null;
  const { delta, budget } = account;
  const digests = await transaction
    .selectFrom('account_digests')
    .select('digest')
    .where('account', '=', name)
    .execute();
  const experiments = await experimentsOf(transaction, name);

  let committed = nothing;
  let reserved = nothing;
  for (const experiment of experiments) {
    committed = addSpending(committed, experiment.committed);
    reserved = addSpending(reserved, experiment.reserved);
  }
  const total = addSpending(committed, reserved);
  const plan = await planOf(transaction, name, account.fixed_plan);
  const figure = accountFigure(total, plan, delta);
  // By the accountant of the total, and never above it.
  const part = (spending: Spending): number | null => {
    if (spending.unbounded > 0) return null;
    if (figure.epsilon === null) return filterEpsilon(spending, delta);
    return Math.min(figure.epsilon, accountFigure(spending, plan && spending, delta).epsilon ?? Infinity);
  };
  return {
    account: name,
    digests: digests.map((row) => row.digest).sort(),
    budget,
    delta,
    committed: part(committed),
    reserved: part(reserved),
    total: figure.epsilon,
    accountant: figure.accountant,
    remaining: budget === null ? null : Math.max(0, budget - filterEpsilon(total, delta)),
    unbounded: total.unbounded,
    experiments: experiments.map((experiment) => lineOf(experiment, delta)),
    waivers: await waiversOf(transaction, name),
    losses: await acknowledgedLosses(transaction),
  };
}

const finite = (epsilon: number): number | null => (Number.isFinite(epsilon) ? epsilon : null);

function lineOf({ line, committed, reserved, planned }: Experiment, delta: number): ExperimentSpending {
  return {
    ...line,
    epsilon: finite(filterEpsilon(addSpending(committed, reserved), delta)),
    committed: finite(filterEpsilon(committed, delta)),
    reserved: finite(filterEpsilon(reserved, delta)),
    plan: planned.unbounded > 0 ? null : composedEpsilon(planned.events, delta),
  };
}

/** Experiments of an account, the one with the oldest entry first. */
async function experimentsOf(transaction: LedgerTransaction, account: string): Promise<Experiment[]> {
  const groups = await transaction
    .selectFrom('entries')
    .select(({ fn }) => [
      'workflow_id',
      'experiment',
      'state',
      'mechanism',
      'charged',
      fn.countAll().as('entries'),
      fn.min('changed_at').as('since'),
    ])
    .where('account', '=', account)
    .groupBy(['workflow_id', 'experiment', 'state', 'mechanism', 'charged'])
    .orderBy('since')
    .orderBy('workflow_id')
    .execute();
  const experiments = new Map<string, Experiment>();
  for (const group of groups) {
    const mechanism = mechanismOf(group);
    const entries = Number(group.entries);
    let experiment = experiments.get(group.workflow_id);
    if (experiment === undefined) {
      const counts = { reserved: 0, begun: 0, committed: 0, released: 0 };
      const line = { experiment: group.experiment, workflowId: group.workflow_id, repeatedSteps: 0, entries: counts };
      experiment = { line, committed: nothing, reserved: nothing, planned: nothing };
      experiments.set(group.workflow_id, experiment);
    }
    const steps = applicationsOf(mechanism);
    experiment.line.entries[group.state as EntryState] += entries;
    experiment.line.repeatedSteps += entries * Math.max(0, group.charged - steps);
    const part = group.state === 'committed' ? 'committed' : 'reserved';
    experiment[part] = addSpending(
      experiment[part],
      spendingOf([{ mechanism, applications: entries * group.charged }]),
    );
    experiment.planned = addSpending(experiment.planned, spendingOf([{ mechanism, applications: entries * steps }]));
  }
  return [...experiments.values()];
}
