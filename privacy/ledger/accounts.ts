/** @file Which account a dataset belongs to, and which delta and budget rule there. */

import { EpsilonflowError } from '../../schemas/errors.ts';
import type { JsonValue } from '../../schemas/plan.ts';
import type { EventKind } from './chain.ts';
import type { EnvelopeAccount } from './ledger.ts';
import { accountDigest, accountOfDigest } from './registration.ts';
import { privatePayload, type LedgerWriter } from './writer.ts';

export interface Account {
  name: string;
  /** Delta that epsilons of this account are stated at: the least ever asked for. */
  delta: number;
  /** Budget that binds the present envelope. */
  budget: number | null;
  /** See `accounts.fixed_plan`. */
  fixedPlan: string | null;
}

/** The lower of two budgets; null is none. */
export const leastBudget = (a: number | null, b: number | null): number | null =>
  a === null ? b : b === null ? a : Math.min(a, b);

/**
 * Finds or opens the account. Data with a digest seen before is that account whatever it is called now; otherwise the
 * name decides: with private data that is only for asking, since what is charged must be registered.
 */
export async function openAccount(
  writer: LedgerWriter,
  stated: EnvelopeAccount,
  owner: { workflowId: string } | { planDigest: string },
  asking: boolean,
): Promise<Account> {
  const { transaction } = writer;
  const registered = await accountOfDigest(transaction, stated);
  if (registered === null && stated.benchmark !== true && !asking) {
    throw new EpsilonflowError('DATASET_UNREGISTERED', `The ledger does not know the data of ${stated.dataset}.`, {
      hint: 'Start the experiment with "epsilonflow run SPEC", which registers its data.',
    });
  }
  const name = registered ?? stated.dataset;
  const append = (kind: EventKind, payload: JsonValue): Promise<void> =>
    writer.append({ kind, account: name, entryId: null, payload, privatePayload: privatePayload(owner) });
  const asked = stated.budget?.epsilon ?? null;
  const known = await transaction.selectFrom('accounts').selectAll().where('name', '=', name).executeTakeFirst();

  const kept = {
    delta: Math.min(known?.delta ?? stated.delta, stated.delta),
    // A benchmark's budget is a matter of each spec and binds nobody else.
    budget: stated.benchmark === true ? (known?.budget ?? null) : leastBudget(known?.budget ?? null, asked),
  };
  if (known === undefined) {
    await transaction
      .insertInto('accounts')
      .values({ name, ...kept, fixed_plan: null, whole: 0 })
      .execute();
    await append('account', kept);
  } else if (known.delta !== kept.delta || known.budget !== kept.budget) {
    await transaction.updateTable('accounts').set(kept).where('name', '=', name).execute();
    await append('budget', kept);
  }
  if (registered === null) {
    const digest = accountDigest(stated);
    await transaction.insertInto('account_digests').values({ digest, account: name }).execute();
    await append('digest', { digest, dataset: stated.dataset });
  }
  return { name, delta: kept.delta, budget: leastBudget(kept.budget, asked), fixedPlan: known?.fixed_plan ?? null };
}
