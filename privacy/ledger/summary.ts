/** @file What an account has spent, from its entries: for people, reports and `ledger show`. */

import type { Kysely } from 'kysely';

import type { Mechanism } from '../../schemas/plan.ts';
import { composedEpsilon, type MechanismEvent } from '../accounting/index.ts';
import { addSpending, filterEpsilon, mechanismEvent, spentEpsilon, type Spending } from './admission.ts';
import type { AccountSummary, EntryState, ExperimentSpending } from './ledger.ts';
import type { LedgerTables } from './schema.ts';

const nothing: Spending = { events: [], unbounded: 0 };

function times(mechanism: Mechanism, entries: number): Spending {
  const event: MechanismEvent | null = mechanismEvent(mechanism);
  return event === null
    ? { events: [], unbounded: entries }
    : { events: [{ ...event, count: event.count * entries }], unbounded: 0 };
}

/** Null when there is no such account. */
export async function summarise(database: Kysely<LedgerTables>, name: string): Promise<AccountSummary | null> {
  const account = await database.selectFrom('accounts').selectAll().where('name', '=', name).executeTakeFirst();
  if (account === undefined) return null;
  const { delta, budget } = account;
  const digests = await database.selectFrom('account_digests').select('digest').where('account', '=', name).execute();
  const groups = await database
    .selectFrom('entries')
    .select(({ fn }) => [
      'workflow_id',
      'experiment',
      'state',
      'mechanism',
      fn.countAll().as('entries'),
      fn.min('changed_at').as('since'),
    ])
    .where('account', '=', name)
    .groupBy(['workflow_id', 'experiment', 'state', 'mechanism'])
    .orderBy('since')
    .execute();

  let committed = nothing;
  let reserved = nothing;
  const experiments = new Map<string, { line: ExperimentSpending; spending: Spending }>();
  for (const group of groups) {
    const state = group.state as EntryState;
    const entries = Number(group.entries);
    let experiment = experiments.get(group.workflow_id);
    if (experiment === undefined) {
      const counts = { reserved: 0, begun: 0, committed: 0, released: 0 };
      const line = { experiment: group.experiment, workflowId: group.workflow_id, epsilon: 0, entries: counts };
      experiment = { line, spending: nothing };
      experiments.set(group.workflow_id, experiment);
    }
    experiment.line.entries[state] += entries;
    if (state === 'released') continue;
    const spending = times(JSON.parse(group.mechanism) as Mechanism, entries);
    experiment.spending = addSpending(experiment.spending, spending);
    if (state === 'committed') committed = addSpending(committed, spending);
    else reserved = addSpending(reserved, spending);
  }

  const total = addSpending(committed, reserved);
  const filtered = experiments.size > 1 ? filterEpsilon(total, delta) : (spentEpsilon(total, delta) ?? Infinity);
  return {
    account: name,
    digests: digests.map((row) => row.digest).sort(),
    budget,
    delta,
    committed: spentEpsilon(committed, delta),
    reserved: spentEpsilon(reserved, delta),
    total: spentEpsilon(total, delta),
    accountant: total.unbounded > 0 ? null : composedEpsilon(total.events, delta).accountant,
    remaining: budget === null ? null : Math.max(0, budget - filtered),
    unbounded: total.unbounded,
    experiments: [...experiments.values()].map(({ line, spending }) => ({
      ...line,
      epsilon: spentEpsilon(spending, delta),
    })),
  };
}
