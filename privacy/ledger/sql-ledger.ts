/** @file The ledger on SQL. Every change is one transaction that first takes the head row, so changes form one line. */

import type { MechanismProof } from '../../schemas/artifact.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { judge, spendingOf, type Spending } from './admission.ts';
import { openAccount, type Account } from './accounts.ts';
import { followChain, genesis, type ChainHead } from './chain.ts';
import { retryBusy, type OpenedDatabase } from './database.ts';
import type {
  AccountSummary,
  Admission,
  CommittedEntry,
  Envelope,
  EnvelopeAccount,
  EnvelopeEntry,
  EntryState,
  FencingToken,
  Ledger,
  Receipt,
} from './ledger.ts';
import { entryId, receiptOf } from './receipt.ts';
import { corrupt, fenced, proofDifference, refusal } from './refusals.ts';
import { summarise } from './summary.ts';
import { LedgerWriter, type EntryRow, type LedgerTransaction } from './writer.ts';

async function held(transaction: LedgerTransaction, account: string): Promise<Spending> {
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

/** Databases bound the number of parameters of a query. */
const idsAQuery = 500;

interface AccountRequest {
  account: Account;
  entries: EnvelopeEntry[];
  stated: EnvelopeAccount;
}

export class SqlLedger implements Ledger {
  readonly #opened: OpenedDatabase;

  constructor(opened: OpenedDatabase) {
    this.#opened = opened;
  }

  /** One transaction under the write lock; run again from the start while another process holds it. */
  #write<T>(work: (writer: LedgerWriter) => Promise<T>): Promise<T> {
    return retryBusy(() =>
      this.#opened.database.transaction().execute(async (transaction) => {
        const head = await transaction
          .updateTable('ledger_head')
          .set((row) => ({ sequence: row.ref('sequence') }))
          .returning(['sequence', 'hash'])
          .executeTakeFirstOrThrow();
        return work(new LedgerWriter(transaction, { sequence: Number(head.sequence), hash: head.hash }));
      }),
    );
  }

  /** One transaction that adds no row to the chain. */
  #transact<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T> {
    return retryBusy(() => this.#opened.database.transaction().execute(work));
  }

  /** Entries of the envelope that cost something now, by account: new ones, and released ones that come back. */
  async #requests(writer: LedgerWriter, envelope: Envelope): Promise<AccountRequest[]> {
    const requests = new Map<string, AccountRequest>();
    for (const stated of envelope.accounts) {
      const account = await openAccount(writer, stated, envelope.workflowId);
      requests.set(stated.dataset, { account, entries: [], stated });
    }
    const known = await writer.transaction
      .selectFrom('entries')
      .select(['id', 'state', 'mechanism_digest', 'node_id'])
      .where('workflow_id', '=', envelope.workflowId)
      .execute();
    const byId = new Map(known.map((row) => [row.id, row]));
    const seen = new Set<string>();
    for (const entry of envelope.entries) {
      const request = requests.get(entry.dataset);
      if (request === undefined) {
        throw new EpsilonflowError('RECEIPT_INVALID', `The envelope names no account for dataset ${entry.dataset}.`);
      }
      const id = entryId(envelope.workflowId, entry);
      const existing = byId.get(id);
      if (existing !== undefined && existing.mechanism_digest !== entry.mechanismDigest) {
        throw new EpsilonflowError('MECHANISM_MISMATCH', `${entry.nodeId} was reserved with another mechanism.`);
      }
      if (seen.has(id) || (existing !== undefined && existing.state !== 'released')) continue;
      seen.add(id);
      request.entries.push(entry);
    }
    return [...requests.values()];
  }

  async #judge(
    writer: LedgerWriter,
    envelope: Envelope,
    { account, entries, stated }: AccountRequest,
  ): Promise<Admission> {
    const other = await writer.transaction
      .selectFrom('entries')
      .select('id')
      .where('account', '=', account.name)
      .where('state', 'in', ['reserved', 'begun', 'committed'])
      .where('workflow_id', '<>', envelope.workflowId)
      .limit(1)
      .executeTakeFirst();
    return judge({
      dataset: stated.dataset,
      account: account.name,
      budget: account.budget,
      delta: account.delta,
      held: await held(writer.transaction, account.name),
      shared: other !== undefined,
      asked: spendingOf(entries.map((entry) => entry.mechanism)),
    });
  }

  async reserve(envelope: Envelope): Promise<Receipt[]> {
    await this.#write(async (writer) => {
      // Two datasets of the envelope may share an account: each is judged after the ones before it are written.
      for (const request of await this.#requests(writer, envelope)) {
        if (request.entries.length === 0) continue;
        const verdict = await this.#judge(writer, envelope, request);
        if (!verdict.admitted) throw refusal(verdict);
        for (const entry of request.entries) await this.#insert(writer, envelope, request.account.name, entry);
      }
    });
    return envelope.entries.map((entry) => receiptOf(envelope.workflowId, entry));
  }

  async #insert(writer: LedgerWriter, envelope: Envelope, account: string, entry: EnvelopeEntry): Promise<void> {
    const id = entryId(envelope.workflowId, entry);
    await writer.transaction
      .insertInto('entries')
      .values({
        id,
        account,
        workflow_id: envelope.workflowId,
        experiment: envelope.experiment,
        plan_digest: envelope.planDigest,
        node_id: entry.nodeId,
        node_key: entry.nodeKey,
        key_epoch: entry.keyEpoch,
        mechanism: canonicalJson(entry.mechanism),
        mechanism_digest: entry.mechanismDigest,
        state: 'reserved',
        fence: 0,
        steps_started: 0,
        proof: null,
        changed_at: writer.time,
      })
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ state: 'reserved', changed_at: writer.time }))
      .execute();
    await writer.hold(account, entry.mechanism, 1);
    const { mechanism, mechanismDigest, nodeId, nodeKey, keyEpoch } = entry;
    const { workflowId, experiment, planDigest } = envelope;
    await writer.append({
      kind: 'reserved',
      account,
      entryId: id,
      payload: {
        workflowId,
        experiment,
        planDigest,
        nodeId,
        nodeKey,
        keyEpoch,
        mechanism: { ...mechanism },
        mechanismDigest,
      },
    });
  }

  async quote(envelope: Envelope): Promise<Admission[]> {
    const verdicts: Admission[] = [];
    const undo = new Error('a quote leaves nothing behind');
    await this.#write(async (writer) => {
      verdicts.length = 0;
      for (const request of await this.#requests(writer, envelope)) {
        verdicts.push(await this.#judge(writer, envelope, request));
      }
      throw undo;
    }).catch((error: unknown) => {
      if (error !== undo) throw error;
    });
    return verdicts;
  }

  async #entry(transaction: LedgerTransaction, receipt: Receipt): Promise<EntryRow> {
    const entry = await transaction
      .selectFrom('entries')
      .selectAll()
      .where('id', '=', receipt.entryId)
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

  async begin(receipt: Receipt, attempt: number | string): Promise<FencingToken> {
    return this.#write(async (writer) => {
      const entry = await this.#entry(writer.transaction, receipt);
      if (entry.state === 'committed') return { entryId: entry.id, token: entry.fence, state: 'committed' };
      if (entry.state === 'released') {
        throw new EpsilonflowError('RECEIPT_INVALID', `The reservation of ${entry.node_id} was released.`);
      }
      const token = entry.fence + 1;
      await writer.move(entry, { state: 'begun', fence: token }, { attempt, token, stepsStarted: entry.steps_started });
      return { entryId: entry.id, token, state: 'begun' };
    });
  }

  async recordStep(receipt: Receipt, token: FencingToken, step: number, _stateDigest: string): Promise<void> {
    await this.#transact(async (transaction) => {
      const entry = await this.#entry(transaction, receipt);
      if (entry.state !== 'begun' || entry.fence !== token.token) throw fenced(entry);
      const mechanism = JSON.parse(entry.mechanism) as Mechanism;
      if (mechanism.kind === 'unbounded') return;
      if (!Number.isInteger(step) || step < 0 || step > mechanism.steps) {
        throw new EpsilonflowError(
          'RECEIPT_INVALID',
          `${entry.node_id} asked for step ${step}, its reservation holds ${mechanism.steps}.`,
        );
      }
      await transaction
        .updateTable('entries')
        .set({ steps_started: Math.max(entry.steps_started, Math.min(step + 1, mechanism.steps)) })
        .where('id', '=', entry.id)
        .execute();
    });
  }

  async checkFence(receipt: Receipt, token: FencingToken): Promise<void> {
    await this.#transact(async (transaction) => {
      const entry = await this.#entry(transaction, receipt);
      if (entry.fence !== token.token || entry.state === 'released') throw fenced(entry);
    });
  }

  async commit(receipt: Receipt, token: FencingToken, proof: MechanismProof | null): Promise<void> {
    await this.#write(async (writer) => {
      const entry = await this.#entry(writer.transaction, receipt);
      const written = canonicalJson(proof);
      if (entry.state === 'committed' && entry.proof === written) return;
      if (entry.state !== 'begun' || entry.fence !== token.token) throw fenced(entry);
      const difference = proofDifference(JSON.parse(entry.mechanism) as Mechanism, proof);
      if (difference !== null) {
        throw new EpsilonflowError('MECHANISM_MISMATCH', `${entry.node_id} ran another mechanism: ${difference}.`);
      }
      const payload = { token: token.token, proof: proof === null ? null : { ...proof } };
      await writer.move(entry, { state: 'committed', proof: written }, payload);
    });
  }

  async release(workflowId: string): Promise<number> {
    return this.#write(async (writer) => {
      const entries = await writer.transaction
        .selectFrom('entries')
        .selectAll()
        .where('workflow_id', '=', workflowId)
        .where('state', '=', 'reserved')
        .orderBy('id')
        .execute();
      for (const entry of entries) {
        await writer.hold(entry.account, JSON.parse(entry.mechanism) as Mechanism, -1);
        await writer.move(entry, { state: 'released' }, { reason: 'never begun' });
      }
      return entries.length;
    });
  }

  async setBudget(account: string, epsilon: number | null, why: { author: string; reason: string }): Promise<void> {
    if (epsilon !== null && !(epsilon > 0 && Number.isFinite(epsilon))) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `A budget must be a positive number, not ${epsilon}.`);
    }
    await this.#write(async (writer) => {
      const { numUpdatedRows } = await writer.transaction
        .updateTable('accounts')
        .set({ budget: epsilon })
        .where('name', '=', account)
        .executeTakeFirst();
      if (Number(numUpdatedRows) === 0) {
        throw new EpsilonflowError('ARGUMENT_INVALID', `The ledger has no account ${account}.`, {
          hint: 'Accounts open with the first run that reserves on them; "epsilonflow ledger show" lists them.',
        });
      }
      await writer.append({ kind: 'budget', account, entryId: null, payload: { budget: epsilon, ...why } });
    });
  }

  async accountSummary(dataset: string): Promise<AccountSummary | null> {
    return this.#transact((transaction) => summarise(transaction, dataset));
  }

  async accounts(): Promise<string[]> {
    const rows = await this.#transact((transaction) =>
      transaction.selectFrom('accounts').select('name').orderBy('name').execute(),
    );
    return rows.map((row) => row.name);
  }

  async entryState(receipt: Receipt): Promise<EntryState> {
    return (await this.#transact((transaction) => this.#entry(transaction, receipt))).state as EntryState;
  }

  async committedEntries(entryIds: readonly string[]): Promise<Map<string, CommittedEntry>> {
    const found = new Map<string, CommittedEntry>();
    for (let from = 0; from < entryIds.length; from += idsAQuery) {
      const rows = await this.#transact((transaction) =>
        transaction
          .selectFrom('entries')
          .selectAll()
          .where('id', 'in', entryIds.slice(from, from + idsAQuery))
          .where('state', '=', 'committed')
          .execute(),
      );
      for (const row of rows) {
        found.set(row.id, {
          entryId: row.id,
          workflowId: row.workflow_id,
          experiment: row.experiment,
          account: row.account,
          nodeKey: row.node_key,
          mechanism: JSON.parse(row.mechanism) as Mechanism,
          mechanismDigest: row.mechanism_digest,
          committedAt: row.changed_at,
        });
      }
    }
    return found;
  }

  async head(): Promise<ChainHead> {
    const row = await this.#transact((transaction) =>
      transaction.selectFrom('ledger_head').selectAll().executeTakeFirstOrThrow(),
    );
    return { sequence: Number(row.sequence), hash: row.hash };
  }

  async verify(): Promise<{ rows: number }> {
    const end = await this.head();
    let head = genesis;
    const page = 1000;
    while (head.sequence < end.sequence) {
      const rows = await this.#transact((transaction) =>
        transaction
          .selectFrom('ledger_rows')
          .selectAll()
          .where('sequence', '>', head.sequence)
          .where('sequence', '<=', end.sequence)
          .orderBy('sequence')
          .limit(page)
          .execute(),
      );
      if (rows.length === 0) throw corrupt(`rows after ${head.sequence} are missing`);
      for (const { entry_id: entryId, previous_hash: previousHash, ...row } of rows) {
        const next = followChain(head, { ...row, sequence: Number(row.sequence), entryId, previousHash });
        if (typeof next === 'string') throw corrupt(next);
        head = next;
      }
    }
    if (head.hash !== end.hash) throw corrupt('its newest row is not the one that its head names');
    return { rows: head.sequence };
  }

  async close(): Promise<void> {
    await this.#opened.close();
  }
}
