/** @file Reserving: what an envelope asks for, and whether an account admits it. */

import { canonicalJson } from '../../schemas/canonical-json.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { openAccount } from './accounts.ts';
import {
  applicationsOf,
  decide,
  planSpending,
  spendingOf,
  type AdmissionQuestion,
  type Decision,
  type PlannedEntry,
  type Spending,
} from './admission.ts';
import type { Envelope, EnvelopeAccount, EnvelopeEntry } from './ledger.ts';
import { entryId, sealMechanism } from './receipt.ts';
import { corrupt } from './refusals.ts';
import { privatePayload, type EntryRow, type LedgerTransaction, type LedgerWriter } from './writer.ts';

/** What an entry of the envelope needs beyond what is charged for it. */
interface Ask {
  id: string;
  entry: EnvelopeEntry;
  existing: EntryRow | null;
  applications: number;
}

/** The data that a mechanism is sealed to: what a reservation's row needs so that its digest can be recomputed. */
export type SealedData = Pick<EnvelopeAccount, 'dataset' | 'digest' | 'delta'>;

/** The part of an envelope that one dataset's account is asked for. */
interface AccountRequest {
  /** As stated; the account may have another name and a lower delta. */
  data: SealedData;
  account: string;
  delta: number;
  budget: number | null;
  /** See `entries.stated_budget`. */
  statedBudget: number | null;
  asks: Ask[];
  standing: Standing;
}

/** What requests for one account share, and change one after the other. */
interface Standing {
  /** See `accounts.fixed_plan`. */
  fixedPlan: string | null;
  /** All entries of the workflow on the account, whatever their state. */
  own: EntryRow[];
}

export async function heldBy(transaction: LedgerTransaction, account: string): Promise<Spending> {
  const rows = await transaction.selectFrom('holdings').selectAll().where('account', '=', account).execute();
  const spending: Spending = { events: [], unbounded: 0 };
  for (const row of rows) {
    const count = Number(row.count);
    if (count < 0) throw corrupt(`account ${account} holds a negative count`);
    if (row.mechanism_key === 'unbounded') spending.unbounded = count;
    else spending.events.push({ ...(JSON.parse(row.event) as Spending['events'][number]), count });
  }
  return spending;
}

export const mechanismOf = (entry: Pick<EntryRow, 'mechanism'>): Mechanism => JSON.parse(entry.mechanism) as Mechanism;

export function plannedEntry(entry: Pick<EntryRow, 'mechanism' | 'records'>): PlannedEntry {
  const mechanism = mechanismOf(entry);
  return { mechanism, repeated: Math.max(0, entry.records - applicationsOf(mechanism)) };
}

/** Whether another workflow than this one has anything charged on the account. */
export async function isShared(transaction: LedgerTransaction, account: string, workflowId: string): Promise<boolean> {
  const other = await transaction
    .selectFrom('entries')
    .select('id')
    .where('account', '=', account)
    .where('charged', '>', 0)
    .where('workflow_id', '<>', workflowId)
    .limit(1)
    .executeTakeFirst();
  return other !== undefined;
}

const entriesOfWorkflow = (transaction: LedgerTransaction, workflowId: string): Promise<EntryRow[]> =>
  transaction.selectFrom('entries').selectAll().where('workflow_id', '=', workflowId).orderBy('id').execute();

/** The whole of the plan that has the account to itself, what was repeated of it included or not; null without one. */
export async function planOf(
  transaction: LedgerTransaction,
  account: string,
  workflowId: string | null,
  { repeated }: { repeated: boolean } = { repeated: true },
): Promise<Spending | null> {
  if (workflowId === null) return null;
  const entries = (await entriesOfWorkflow(transaction, workflowId)).filter((entry) => entry.account === account);
  const planned = entries.map(plannedEntry);
  return planSpending(repeated ? planned : planned.map((entry) => ({ ...entry, repeated: 0 })));
}

/** What the envelope asks of each account, by its datasets in order. Opens accounts that are not there. */
export async function readRequests(
  writer: LedgerWriter,
  envelope: Envelope,
  asking: boolean,
): Promise<AccountRequest[]> {
  const { workflowId } = envelope;
  const requests = new Map<string, AccountRequest>();
  for (const stated of envelope.accounts)
    requests.set(stated.dataset, await openRequest(writer, stated, workflowId, asking));
  refuseSharedAccounts(envelope, requests);
  const known = await entriesOfWorkflow(writer.transaction, workflowId);
  const byId = new Map(known.map((row) => [row.id, row]));
  const standings = new Map<string, Standing>();
  for (const request of requests.values()) {
    request.standing.own = known.filter((row) => row.account === request.account);
    request.standing = standings.get(request.account) ?? request.standing;
    standings.set(request.account, request.standing);
  }
  const seen = new Set<string>();
  for (const entry of envelope.entries) {
    const request = requests.get(entry.dataset);
    if (request === undefined) {
      throw new EpsilonflowError('RECEIPT_INVALID', `The envelope names no account for dataset ${entry.dataset}.`);
    }
    const id = entryId(workflowId, entry);
    const existing = byId.get(id) ?? null;
    if (existing !== null && existing.mechanism_digest !== entry.mechanismDigest) {
      throw new EpsilonflowError('MECHANISM_MISMATCH', `${entry.nodeId} was reserved with another mechanism.`);
    }
    if (sealMechanism(request.data, entry.mechanism) !== entry.mechanismDigest) {
      throw new EpsilonflowError(
        'MECHANISM_MISMATCH',
        `The mechanism digest of ${entry.nodeId} is not that of its mechanism, data and delta.`,
        { hint: 'Compile the spec again: its plan was changed after it was made.' },
      );
    }
    if (seen.has(id)) continue;
    seen.add(id);
    const needed = Math.max(applicationsOf(entry.mechanism), existing?.records ?? 0);
    const applications = needed - (existing?.charged ?? 0);
    if (existing === null || existing.state === 'released' || applications > 0) {
      request.asks.push({ id, entry, existing, applications });
    }
  }
  return [...requests.values()];
}

/**
 * A plan states a figure for each of its datasets. Where two of them are one account, records of both would pay the sum,
 * which neither figure says.
 */
function refuseSharedAccounts({ accounts }: Envelope, requests: ReadonlyMap<string, AccountRequest>): void {
  const names = new Map<string, string>();
  for (const { dataset, benchmark } of accounts) {
    if (benchmark === true) continue;
    const { account } = requests.get(dataset)!;
    const other = names.get(account);
    if (other !== undefined) {
      throw new EpsilonflowError(
        'DATASET_OVERLAP',
        `Datasets ${other} and ${dataset} are one account of the ledger (${account}): they share their records.`,
        { hint: 'Name one of them in the spec, or put their records into one dataset.' },
      );
    }
    names.set(account, dataset);
  }
}

async function openRequest(
  writer: LedgerWriter,
  stated: EnvelopeAccount,
  workflowId: string,
  asking: boolean,
): Promise<AccountRequest> {
  const { name, delta, budget, fixedPlan } = await openAccount(writer, stated, { workflowId }, asking);
  const statedBudget = stated.benchmark === true ? (stated.budget?.epsilon ?? null) : null;
  return {
    data: { dataset: stated.dataset, digest: stated.digest, delta: stated.delta },
    account: name,
    delta,
    budget,
    statedBudget,
    asks: [],
    standing: { fixedPlan, own: [] },
  };
}

export interface OpenQuestion extends AdmissionQuestion {
  /** Whether the workflow has the account to itself with a plan that was fixed before any of it began. */
  fixed: boolean;
}

export async function questionOf(
  writer: LedgerWriter,
  workflowId: string,
  request: AccountRequest,
): Promise<OpenQuestion> {
  const { data, account, delta, budget, asks } = request;
  const { fixedPlan, own } = request.standing;
  const { transaction } = writer;
  const isFresh = asks.some(({ existing }) => existing === null);
  const hasBegun = own.some(({ fence }) => fence > 0);
  const fixed =
    (!hasBegun || (fixedPlan === workflowId && !isFresh)) && !(await isShared(transaction, account, workflowId));
  const added = asks.filter(({ existing }) => existing === null).map(({ entry }) => ({ ...entry, repeated: 0 }));
  return {
    dataset: data.dataset,
    account,
    budget,
    delta,
    held: await heldBy(transaction, account),
    asked: spendingOf(asks.map(({ entry, applications }) => ({ mechanism: entry.mechanism, applications }))),
    heldPlan: await planOf(transaction, account, fixedPlan),
    plan: fixed ? planSpending([...own.map(plannedEntry), ...added]) : null,
    isTightOpen: fixed && !hasBegun,
    fixed,
  };
}

/** What comes back without a further charge was admitted before. */
export const decideRequest = (request: AccountRequest, question: OpenQuestion): Decision | null =>
  request.asks.some(({ applications }) => applications > 0) ? decide(question) : null;

/** Writes what was admitted. */
export async function admit(
  writer: LedgerWriter,
  envelope: Envelope,
  request: AccountRequest,
  { fixed, by }: { fixed: boolean; by: Decision['by'] | null },
): Promise<void> {
  const { data, account, asks, standing, statedBudget } = request;
  const { workflowId, experiment, planDigest } = envelope;
  const added: EntryRow[] = [];
  for (const { id, entry, existing, applications } of asks) {
    const { nodeId, nodeKey, keyEpoch, mechanism, mechanismDigest } = entry;
    const charged = (existing?.charged ?? 0) + applications;
    const admission = { charged, admittedBy: by, fixedPlan: fixed };
    if (existing?.state === 'begun') {
      await writer.update(existing, { charged });
      await writer.append({
        kind: 'extended',
        account,
        entryId: id,
        payload: { ...admission, reason: 'taken up again' },
      });
      continue;
    }
    if (existing !== null) await writer.update(existing, { state: 'reserved', charged });
    else {
      added.push({
        id,
        account,
        workflow_id: workflowId,
        experiment,
        plan_digest: planDigest,
        node_id: nodeId,
        node_key: nodeKey,
        key_epoch: keyEpoch,
        mechanism: canonicalJson(mechanism),
        mechanism_digest: mechanismDigest,
        state: 'reserved',
        fence: 0,
        ended: 0,
        steps_started: 0,
        charged,
        records: 0,
        records_hash: '',
        stated_budget: statedBudget,
        key_fingerprint: null,
        proof: null,
        changed_at: writer.time,
      });
    }
    const identity = { nodeKey, keyEpoch, data: { ...data }, mechanism: { ...mechanism }, mechanismDigest };
    await writer.append({
      kind: 'reserved',
      account,
      entryId: id,
      payload: { ...identity, statedBudget, ...admission },
      // Whose it is shows by the entry's id to those who know workflow and node, and to nobody else.
      privatePayload: privatePayload({ workflowId, experiment, planDigest, nodeId }),
    });
  }
  await writer.insertEntries(added);
  // Another dataset of the envelope may be the same account: it is judged with these there.
  standing.own.push(...added);
  await writer.hold(
    account,
    asks.map(({ entry, applications }) => ({ mechanism: entry.mechanism, applications })),
  );
  const fixedPlan = fixed ? workflowId : null;
  if (fixedPlan === standing.fixedPlan && by !== 'fixed-plan') return;
  standing.fixedPlan = fixedPlan;
  await recordPlan(writer, account, { fixed, by, workflowId });
}

/** What the account has to remember of an admission. */
export async function recordPlan(
  writer: LedgerWriter,
  account: string,
  { fixed, by, workflowId }: { fixed: boolean; by: Decision['by'] | null; workflowId: string },
): Promise<void> {
  await writer.transaction
    .updateTable('accounts')
    .set({ fixed_plan: fixed ? workflowId : null, ...(by === 'fixed-plan' && { whole: 1 }) })
    .where('name', '=', account)
    .execute();
}
