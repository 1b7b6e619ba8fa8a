/** @file The life of an entry from its first attempt to its commit. Only the newest attempt may write. */

import { canonicalJson } from '../../schemas/canonical-json.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { applicationsOf, decide, filterEpsilon, spendingOf, type AdmissionQuestion } from './admission.ts';
import { leastBudget } from './accounts.ts';
import { stepsHash } from './chain.ts';
import type { FencingToken, Receipt } from './ledger.ts';
import { fenced, keyLost, proofDifference } from './refusals.ts';
import { heldBy, isShared, mechanismOf, planOf, recordPlan } from './reservation.ts';
import { privatePayload, type EntryRow, type LedgerTransaction, type LedgerWriter } from './writer.ts';

/** The receipt's entry, locked until the transaction ends. Throws RECEIPT_INVALID. */
export async function entryOf(
  transaction: LedgerTransaction,
  receipt: Receipt,
  { isPostgres }: { isPostgres: boolean },
): Promise<EntryRow> {
  const entry = await transaction
    .selectFrom('entries')
    .selectAll()
    .where('id', '=', receipt.entryId)
    .$if(isPostgres, (query) => query.forUpdate())
    .executeTakeFirst();
  if (
    entry === undefined ||
    entry.workflow_id !== receipt.workflowId ||
    entry.node_key !== receipt.nodeKey ||
    entry.mechanism_digest !== receipt.mechanismDigest
  ) {
    throw new EpsilonflowError('RECEIPT_INVALID', 'The receipt names no reservation of this ledger.', {
      hint: 'Was the ledger exchanged or lost? See "epsilonflow ledger show".',
    });
  }
  return entry;
}

const recordsOf = ({ records, records_hash: recordsHash }: EntryRow): { records: number; recordsHash: string } => ({
  records,
  recordsHash,
});

export async function begin(
  writer: LedgerWriter,
  receipt: Receipt,
  attempt: number | string,
  keyFingerprint: string | null,
): Promise<FencingToken> {
  const entry = await entryOf(writer.transaction, receipt, writer);
  if (entry.state === 'committed') return { entryId: entry.id, token: entry.fence, state: 'committed' };
  if (entry.state === 'released') {
    throw new EpsilonflowError('RECEIPT_INVALID', `The reservation of ${entry.node_id} was released.`);
  }
  if (entry.key_fingerprint !== null && keyFingerprint !== null && entry.key_fingerprint !== keyFingerprint) {
    throw keyLost(entry.node_id, 'is not the one that it began with');
  }
  const token = entry.fence + 1;
  const bound = entry.key_fingerprint ?? keyFingerprint;
  await writer.update(entry, { state: 'begun', fence: token, ended: 0, key_fingerprint: bound });
  await writer.append({
    kind: 'begun',
    account: entry.account,
    entryId: entry.id,
    payload: { attempt, token, ...recordsOf(entry) },
    privatePayload: privatePayload({ keyFingerprint: bound }),
  });
  return { entryId: entry.id, token, state: 'begun' };
}

export interface StepRecord {
  step: number;
  stateDigest: string;
  /** Number of records that were drawn for it; null where none are drawn. */
  batchSize: number | null;
}

/** Throws FENCED when a newer attempt has begun or the entry is no longer open, RECEIPT_INVALID for no such step. */
function checkStep(entry: EntryRow, mechanism: Mechanism, token: FencingToken, step: number): void {
  if (entry.state !== 'begun' || entry.fence !== token.token) throw fenced(entry);
  const steps = applicationsOf(mechanism);
  if (mechanism.kind === 'unbounded' || (Number.isInteger(step) && step >= 0 && step < steps)) return;
  throw new EpsilonflowError(
    'RECEIPT_INVALID',
    `${entry.node_id} asked for step ${step} (from 0), its reservation holds ${steps}.`,
  );
}

async function isRecorded(transaction: LedgerTransaction, id: string, record: StepRecord): Promise<boolean> {
  const known = await transaction
    .selectFrom('entry_steps')
    .select('ordinal')
    .where('entry_id', '=', id)
    .where('step', '=', record.step)
    .where('digest', '=', record.stateDigest)
    .executeTakeFirst();
  return known !== undefined;
}

async function addRecord(
  transaction: LedgerTransaction,
  entry: EntryRow,
  { step, stateDigest, batchSize }: StepRecord,
): Promise<EntryRow> {
  const change = {
    records: entry.records + 1,
    records_hash: stepsHash(entry.records_hash, step, stateDigest),
    steps_started: Math.max(entry.steps_started, step + 1),
  };
  await transaction
    .insertInto('entry_steps')
    .values({ entry_id: entry.id, ordinal: change.records, step, digest: stateDigest, batch_size: batchSize })
    .execute();
  await transaction.updateTable('entries').set(change).where('id', '=', entry.id).execute();
  return { ...entry, ...change };
}

/** How many records an entry has by now, and whether this one is among them only now. */
export interface Recorded {
  records: number;
  isNew: boolean;
}

/**
 * Records a step that nothing further is charged for, without waiting for the rest of the ledger. Returns null when it
 * has to be charged first.
 */
export async function recordCharged(
  transaction: LedgerTransaction,
  receipt: Receipt,
  token: FencingToken,
  record: StepRecord,
  database: { isPostgres: boolean },
): Promise<Recorded | null> {
  const entry = await entryOf(transaction, receipt, database);
  const mechanism = mechanismOf(entry);
  checkStep(entry, mechanism, token, record.step);
  const { records } = entry;
  if (mechanism.kind === 'unbounded' || (await isRecorded(transaction, entry.id, record)))
    return { records, isNew: false };
  if (records >= entry.charged) return null;
  return { records: (await addRecord(transaction, entry, record)).records, isNew: true };
}

/**
 * Records a step that exceeds what is charged: one more application of the mechanism, if the account admits it. Returns
 * the question that the account did not admit, else what is recorded.
 */
export async function recordExtended(
  writer: LedgerWriter,
  receipt: Receipt,
  token: FencingToken,
  record: StepRecord,
): Promise<AdmissionQuestion | Recorded> {
  const { transaction } = writer;
  const entry = await entryOf(transaction, receipt, writer);
  const mechanism = mechanismOf(entry);
  checkStep(entry, mechanism, token, record.step);
  if (await isRecorded(transaction, entry.id, record)) return { records: entry.records, isNew: false };
  const recorded = await addRecord(transaction, entry, record);
  const { records } = recorded;
  if (records <= entry.charged) return { records, isNew: true };

  const { account } = entry;
  const question = await extensionQuestion(transaction, recorded);
  const { admitted, by } = decide(question);
  if (!admitted) return question;
  const charged = records;
  await writer.update(entry, { charged });
  await writer.hold(account, [{ mechanism, applications: charged - entry.charged }]);
  const fixed = question.plan !== null;
  await recordPlan(writer, account, { fixed, by, workflowId: entry.workflow_id });
  const admission = { charged, admittedBy: by, fixedPlan: fixed };
  const payload = { ...admission, reason: 'repeated from another state', step: record.step, ...recordsOf(recorded) };
  await writer.append({ kind: 'extended', account, entryId: entry.id, payload });
  return { records, isNew: true };
}

/** `entry` with the record that is to be paid for. */
async function extensionQuestion(transaction: LedgerTransaction, entry: EntryRow): Promise<AdmissionQuestion> {
  const account = await transaction
    .selectFrom('accounts')
    .selectAll()
    .where('name', '=', entry.account)
    .executeTakeFirstOrThrow();
  const { name, delta } = account;
  const budget = leastBudget(account.budget, entry.stated_budget);
  const isAlone = account.fixed_plan === entry.workflow_id && !(await isShared(transaction, name, entry.workflow_id));
  // The record is written already, so the plan as it stands includes it.
  const plan = isAlone ? await planOf(transaction, name, entry.workflow_id) : null;
  return {
    dataset: name,
    account: name,
    budget,
    delta,
    held: await heldBy(transaction, name),
    asked: spendingOf([{ mechanism: mechanismOf(entry), applications: entry.records - entry.charged }]),
    heldPlan: plan,
    plan,
    isTightOpen: account.whole === 1 && isAlone && !(await passesFilter(transaction, account, entry, budget)),
  };
}

/**
 * Whether the filter admits the entry's plan as it was fixed. Then it guards the plan, repetitions included, and the
 * tight figure does not: known from the plan alone, whatever happened since.
 */
async function passesFilter(
  transaction: LedgerTransaction,
  { name, delta }: { name: string; delta: number },
  entry: EntryRow,
  budget: number | null,
): Promise<boolean> {
  const planned = await planOf(transaction, name, entry.workflow_id, { repeated: false });
  return budget === null || planned === null || filterEpsilon(planned, delta) <= budget;
}

export async function commit(
  writer: LedgerWriter,
  receipt: Receipt,
  token: FencingToken,
  proof: MechanismProof | null,
): Promise<void> {
  const entry = await entryOf(writer.transaction, receipt, writer);
  const written = canonicalJson(proof);
  if (entry.state === 'committed' && entry.proof === written) return;
  if (entry.state !== 'begun' || entry.fence !== token.token) throw fenced(entry);
  const mechanism = mechanismOf(entry);
  const difference = proofDifference(mechanism, proof);
  if (difference !== null) {
    throw new EpsilonflowError('MECHANISM_MISMATCH', `${entry.node_id} ran another mechanism: ${difference}.`);
  }
  // Whatever was given back of it meanwhile: a mechanism that ran whole is charged whole.
  const charged = Math.max(entry.charged, applicationsOf(mechanism));
  await writer.update(entry, { state: 'committed', proof: written, charged });
  await writer.hold(entry.account, [{ mechanism, applications: charged - entry.charged }]);
  const payload = {
    token: token.token,
    proof: proof === null ? null : { ...proof },
    charged,
    ...recordsOf(entry),
    repeatedSteps: entry.records - (await stepsRecorded(writer.transaction, entry)),
  };
  const batchSizes = await batchSizesOf(writer.transaction, entry);
  await writer.append({
    kind: 'committed',
    account: entry.account,
    entryId: entry.id,
    payload,
    ...(batchSizes && { privatePayload: privatePayload({ batchSizes }) }),
  });
}

/** Numbers of drawn records by step record, in order; null where none were drawn. */
async function batchSizesOf(transaction: LedgerTransaction, entry: EntryRow): Promise<(number | null)[] | null> {
  if (entry.records === 0) return null;
  const steps = await transaction
    .selectFrom('entry_steps')
    .select('batch_size')
    .where('entry_id', '=', entry.id)
    .orderBy('ordinal')
    .execute();
  const sizes = steps.map(({ batch_size: size }) => size);
  return sizes.some((size) => size !== null) ? sizes : null;
}

/** How many different steps were recorded; the rest of the records are repetitions from other states. */
export async function stepsRecorded(transaction: LedgerTransaction, entry: EntryRow): Promise<number> {
  if (entry.records === 0) return 0;
  const { steps } = await transaction
    .selectFrom('entry_steps')
    .select(({ fn }) => fn.count('step').distinct().as('steps'))
    .where('entry_id', '=', entry.id)
    .executeTakeFirstOrThrow();
  return Number(steps);
}
