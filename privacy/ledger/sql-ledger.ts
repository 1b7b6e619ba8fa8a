/** @file The ledger on SQL. Every change is one transaction that first takes the head row, so changes form one line. */

import type { MechanismProof } from '../../schemas/artifact.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { failpoint } from '../../schemas/failpoints.ts';
import { applicationsOf, filterEpsilon, judge, spendingOf, spentEpsilon, type AdmissionQuestion } from './admission.ts';

import { begin, commit, entryOf, recordCharged, recordExtended, type Recorded } from './attempts.ts';
import type { ChainHead } from './chain.ts';
import { acknowledgeDiscontinuities, acknowledgedLosses, findDiscontinuities, ledgerIdentity } from './continuity.ts';
import type { ChainedRow } from './chain.ts';
import type { OpenedDatabase } from './database.ts';
import { giveBack } from './giving-back.ts';
import { rowsBehind } from './rows-behind.ts';
import type {
  AccountSummary,
  Admission,
  CommittedEntry,
  DatasetRegistration,
  Discontinuity,
  Envelope,
  EntryState,
  FencingToken,
  Ledger,
  LedgerCheck,
  LedgerLoss,
  LedgerMemory,
  PlanWaiver,
  PublicData,
  Receipt,
  RememberedSteps,
  RegisteredDataset,
  RowsOfAccount,
} from './ledger.ts';
import { acknowledgePublic, privateSharers } from './public-data.ts';
import { receiptOf } from './receipt.ts';
import { fenced, refusal } from './refusals.ts';
import { isSettled, privateAccounts, registerAll } from './registration.ts';
import { admit, decideRequest, mechanismOf, questionOf, readRequests } from './reservation.ts';
import { summarise } from './summary.ts';
import { verifyLedger } from './verify.ts';
import { recordWaiver } from './waivers.ts';
import { LedgerWriter, type LedgerTransaction } from './writer.ts';

/** Databases bound the number of parameters of a query. */
const idsAQuery = 500;

/** Thrown inside a transaction to leave nothing behind. */
class Undone extends Error {
  override readonly name = 'Undone';
}

export class SqlLedger implements Ledger {
  readonly #opened: OpenedDatabase;

  constructor(opened: OpenedDatabase) {
    this.#opened = opened;
  }

  /**
   * One transaction under the write lock; run again from the start while another process holds it. `bridging`: also
   * after a lost connection, whether or not the change was made before.
   */
  async #write<T>(
    operation: string,
    work: (writer: LedgerWriter) => Promise<T>,
    options?: { bridging: boolean },
  ): Promise<T> {
    const { database, isPostgres, retry } = this.#opened;
    const transaction = database.transaction().setIsolationLevel('read committed');
    failpoint(`${operation}: asked`);
    const done = await retry(
      () =>
        transaction.execute(async (transaction) => {
          const head = await transaction
            .updateTable('ledger_head')
            .set((row) => ({ sequence: row.ref('sequence') }))
            .returning(['sequence', 'hash'])
            .executeTakeFirstOrThrow();
          const writer = new LedgerWriter(
            transaction,
            { sequence: Number(head.sequence), hash: head.hash },
            isPostgres,
          );
          const result = await work(writer);
          await writer.finish();
          failpoint(`${operation}: written`);
          return result;
        }),
      options,
    );
    failpoint(`${operation}: durable`);
    return done;
  }

  /** One transaction that adds no row to the chain. */
  #transact<T>(work: (transaction: LedgerTransaction) => Promise<T>, options?: { bridging: boolean }): Promise<T> {
    const { database, retry } = this.#opened;
    const transaction = database.transaction().setIsolationLevel('read committed');
    return retry(() => transaction.execute(work), options);
  }

  /** What all tables held at one moment; writers do not wait for it, nor it for them. */
  #snapshot<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T> {
    const { database, retry } = this.#opened;
    const transaction = database.transaction().setIsolationLevel('repeatable read').setAccessMode('read only');
    return retry(() => transaction.execute(work));
  }

  register(registrations: readonly DatasetRegistration[]): Promise<RegisteredDataset[]> {
    return this.#write('register', (writer) => registerAll(writer, registrations));
  }

  isRegistered(data: Pick<DatasetRegistration, 'dataset' | 'digest' | 'benchmark'>): Promise<boolean> {
    return this.#transact((transaction) => isSettled(transaction, data));
  }

  async privateAccounts(): Promise<string[]> {
    return [...(await this.#snapshot(privateAccounts))].sort();
  }

  privateSharers(data: PublicData, pending: readonly RowsOfAccount[]): Promise<string[]> {
    return this.#snapshot((transaction) => privateSharers(transaction, data, pending));
  }

  acknowledgePublic(...[data, decision]: Parameters<Ledger['acknowledgePublic']>): Promise<void> {
    return this.#write('acknowledge-public', (writer) => acknowledgePublic(writer, data, decision));
  }

  async reserve(envelope: Envelope): Promise<Receipt[]> {
    prepareFigures(envelope);
    let refused: AdmissionQuestion | null = null;
    const reserving = this.#write('reserve', async (writer) => {
      refused = null;
      // Two datasets of the envelope may share an account: each is judged after the ones before it are written.
      for (const request of await readRequests(writer, envelope, false)) {
        if (request.asks.length === 0) continue;
        const question = await questionOf(writer, envelope.workflowId, request);
        const decision = decideRequest(request, question);
        if (decision?.admitted === false) {
          refused = question;
          throw new Undone();
        }
        await admit(writer, envelope, request, { fixed: question.fixed, by: decision?.by ?? null });
      }
    });
    await reserving.catch((error: unknown) => {
      // The figures for people are computed here, where nobody waits for them.
      throw error instanceof Undone && refused !== null ? refusal(judge(refused)) : error;
    });
    return envelope.entries.map((entry) => receiptOf(envelope.workflowId, entry));
  }

  recordWaiver(waived: PlanWaiver): Promise<void> {
    return this.#write('waive', (writer) => recordWaiver(writer, waived));
  }

  async quote(envelope: Envelope, registrations: readonly DatasetRegistration[] = []): Promise<Admission[]> {
    const questions: AdmissionQuestion[] = [];
    await this.#write('quote', async (writer) => {
      questions.length = 0;
      await registerAll(writer, registrations);
      for (const request of await readRequests(writer, envelope, true)) {
        questions.push(await questionOf(writer, envelope.workflowId, request));
      }
      throw new Undone();
    }).catch((error: unknown) => {
      if (!(error instanceof Undone)) throw error;
    });
    return questions.map(judge);
  }

  begin(receipt: Receipt, attempt: number | string, keyFingerprint: string | null): Promise<FencingToken> {
    return this.#write('begin', (writer) => begin(writer, receipt, attempt, keyFingerprint), { bridging: true });
  }

  async recordStep(
    receipt: Receipt,
    token: FencingToken,
    step: number,
    stateDigest: string,
    batchSize: number | null = null,
  ): Promise<{ isChained: boolean } & Recorded> {
    const record = { step, stateDigest, batchSize };
    const bridging = { bridging: true };
    failpoint('record: asked');
    const charged = await this.#transact(async (transaction) => {
      const done = await recordCharged(transaction, receipt, token, record, this.#opened);
      failpoint('record: written');
      return done;
    }, bridging);
    failpoint('record: durable');
    if (charged !== null) return { isChained: false, ...charged };
    let refused: AdmissionQuestion | null = null;
    let extended: Recorded | null = null;
    const extend = async (writer: LedgerWriter): Promise<void> => {
      const answer = await recordExtended(writer, receipt, token, record);
      if ('isNew' in answer) extended = answer;
      else {
        refused = answer;
        throw new Undone();
      }
    };
    const extending = this.#write('extend', extend, bridging);
    await extending.catch((error: unknown) => {
      throw error instanceof Undone && refused !== null ? refusal(judge(refused)) : error;
    });
    return { isChained: true, ...extended! };
  }

  async recordCount(entryId: string): Promise<number> {
    const entry = await this.#snapshot((transaction) =>
      transaction.selectFrom('entries').select('records').where('id', '=', entryId).executeTakeFirst(),
    );
    return entry?.records ?? 0;
  }

  async checkFence(receipt: Receipt, token: FencingToken): Promise<void> {
    await this.#transact(
      async (transaction) => {
        const entry = await entryOf(transaction, receipt, this.#opened);
        if (entry.fence !== token.token || entry.state === 'released') throw fenced(entry);
      },
      { bridging: true },
    );
  }

  commit(receipt: Receipt, token: FencingToken, proof: MechanismProof | null): Promise<void> {
    return this.#write('commit', (writer) => commit(writer, receipt, token, proof), { bridging: true });
  }

  release(workflowId: string, known: Partial<RememberedSteps> = {}): Promise<number> {
    const remembered = { records: new Map(), ownKeys: new Map(), ...known };
    return this.#write('release', (writer) => giveBack(writer, workflowId, remembered));
  }

  async setBudget(account: string, epsilon: number | null, why: { author: string; reason: string }): Promise<void> {
    if (epsilon !== null && !(epsilon > 0 && Number.isFinite(epsilon))) {
      throw new EpsilonflowError('ARGUMENT_INVALID', `A budget must be a positive number, not ${epsilon}.`);
    }
    await this.#write('set-budget', async (writer) => {
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

  accountSummary(dataset: string): Promise<AccountSummary | null> {
    return this.#snapshot((transaction) => summarise(transaction, dataset));
  }

  async accounts(): Promise<string[]> {
    const rows = await this.#snapshot((transaction) =>
      transaction.selectFrom('accounts').select('name').orderBy('name').execute(),
    );
    return rows.map((row) => row.name);
  }

  async entryState(receipt: Receipt): Promise<EntryState> {
    const entry = await this.#transact((transaction) => entryOf(transaction, receipt, this.#opened));
    return entry.state as EntryState;
  }

  async committedEntries(entryIds: readonly string[]): Promise<Map<string, CommittedEntry>> {
    const found = new Map<string, CommittedEntry>();
    for (let from = 0; from < entryIds.length; from += idsAQuery) {
      const rows = await this.#snapshot((transaction) =>
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
          mechanism: mechanismOf(row),
          mechanismDigest: row.mechanism_digest,
          committedAt: row.changed_at,
        });
      }
    }
    return found;
  }

  rowsBehind(workflowId: string, entryIds: readonly string[]): Promise<ChainedRow[]> {
    return this.#snapshot((transaction) => rowsBehind(transaction, workflowId, entryIds));
  }

  identity(): Promise<string> {
    return this.#transact(ledgerIdentity);
  }

  isReplaced(): boolean {
    return this.#opened.isReplaced();
  }

  discontinuities(memory: LedgerMemory): Promise<Discontinuity[]> {
    return this.#snapshot((transaction) => findDiscontinuities(transaction, memory));
  }

  acknowledge(found: readonly Discontinuity[], why: { author: string; reason: string }): Promise<void> {
    return this.#write('acknowledge', (writer) => acknowledgeDiscontinuities(writer, found, why));
  }

  losses(): Promise<LedgerLoss[]> {
    return this.#snapshot(acknowledgedLosses);
  }

  async head(): Promise<ChainHead> {
    const row = await this.#snapshot((transaction) =>
      transaction.selectFrom('ledger_head').selectAll().executeTakeFirstOrThrow(),
    );
    return { sequence: Number(row.sequence), hash: row.hash };
  }

  verify(): Promise<LedgerCheck> {
    return this.#snapshot(verifyLedger);
  }

  async close(): Promise<void> {
    await this.#opened.close();
  }
}

/**
 * Tight figures take up to seconds and are remembered: those that a first plan will need are computed before the
 * ledger is locked.
 */
function prepareFigures({ accounts, entries }: Envelope): void {
  for (const { dataset, delta, budget } of accounts) {
    if (budget === null) continue;
    const charges = entries
      .filter((entry) => entry.dataset === dataset)
      .map(({ mechanism }) => ({ mechanism, applications: applicationsOf(mechanism) }));
    const asked = spendingOf(charges);
    if (filterEpsilon(asked, delta) > budget.epsilon) spentEpsilon(asked, delta);
  }
}
