/** @file What the ledger promises: one account a dataset, entries that are charged once, and nothing over budget. */

import type { Accountant } from '../accounting/index.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import type { ChainedRow } from './chain.ts';
import type { DatasetRows, PublicRows } from './rows.ts';

/**
 * `reserved` and `begun` entries count whole, begun ones of an ended run as far as steps were recorded. Only `released`
 * ones, provably never begun, cost nothing.
 */
export type EntryState = 'reserved' | 'begun' | 'committed' | 'released';

/** What one experiment wants to spend, reserved in one transaction before any of it runs. */
export interface Envelope {
  workflowId: string;
  /** Name of the spec, for people. */
  experiment: string;
  planDigest: string;
  accounts: EnvelopeAccount[];
  entries: EnvelopeEntry[];
}

export interface EnvelopeAccount {
  dataset: string;
  /** As in the plan; an HMAC where the dataset is private. */
  digest: string;
  delta: number;
  /** Null: recorded only. */
  budget: { epsilon: number } | null;
  /**
   * Public data standing in for private data: the budget that the spec states is the whole rule. Otherwise the account
   * keeps the lowest budget ever stated, and only an entry of its own raises it.
   */
  benchmark?: boolean;
}

export interface EnvelopeEntry {
  dataset: string;
  nodeId: string;
  /** Content key of the node. */
  nodeKey: string;
  /** Counts deliberate repetitions of one node in one workflow; 0 unless a new charge is wanted. */
  keyEpoch: number;
  mechanism: Mechanism;
  /** `NodePrivacy.digest`. */
  mechanismDigest: string;
}

/** Exact figures that a plan lets leave of private records, under a waiver of its spec. */
export interface PlanWaiver extends Pick<Envelope, 'experiment' | 'planDigest'> {
  /** Name of the waiver. */
  waiver: string;
  reason: string;
  /** Whose records they are of. */
  accounts: EnvelopeAccount[];
}

/** A split of a dataset as the ledger gets to know it, before anything is spent on it. */
export interface DatasetRegistration {
  /** Name of the account that it asks for: the dataset's, `NAME/test` for its test split. */
  dataset: string;
  /** As in the envelope. */
  digest: string;
  /** Public data standing in for private data: recorded, never refused. */
  benchmark: boolean;
  rows: DatasetRows;
  /** Someone's word on records that other accounts hold too. */
  decision?: Decision;
}

export interface Decision {
  /** The account that the data belong to; null: one of their own name. */
  joins: string | null;
  /** Accounts whose shared records are nobody's: boilerplate, public text. */
  apartFrom: readonly string[];
  author: string;
  reason: string;
}

/** Data that a spec calls public, all splits together: they have no account. */
export interface PublicData {
  dataset: string;
  /** Content digest, as in the plan. */
  digest: string;
  rows: PublicRows;
}

/** What an account will hold. */
export type RowsOfAccount = Pick<DatasetRegistration, 'dataset' | 'rows'>;

export interface RegisteredDataset {
  dataset: string;
  account: string;
  /** False: the digest was registered before. */
  isNew: boolean;
}

/** A row of the chain of a ledger, as someone remembers it. */
export interface KnownHead {
  /** Identity of the ledger. */
  ledger: string;
  sequence: number;
  hash: string;
}

export interface RememberedHead extends KnownHead {
  /** Who remembers it, for people: a file, a workflow, a run of the tracker. */
  source: string;
}

/** What is remembered of a ledger from outside of it. */
export interface LedgerMemory {
  heads: readonly RememberedHead[];
  /** `DatasetRows.key` of the dataset secret that is there now; null: not compared. */
  rowKey: string | null;
}

/**
 * What is remembered and this ledger does not hold: it is another ledger, an older copy of this one, or its dataset
 * secret is another one.
 */
export type Discontinuity =
  | { problem: 'exchanged' | 'rolled-back'; expected: RememberedHead }
  | { problem: 'secret-lost'; expected: { key: string }; found: { key: string } };

/** Proof of a reservation; JSON, so that workflows can carry it. */
export interface Receipt {
  entryId: string;
  workflowId: string;
  dataset: string;
  nodeKey: string;
  mechanismDigest: string;
}

/** Belongs to one attempt; the next `begin` of the same entry makes it worthless. JSON. */
export interface FencingToken {
  entryId: string;
  token: number;
  /** `committed`: nothing is left to do but to return the stored result. */
  state: 'begun' | 'committed';
}

/** How an envelope was, or would be, judged. */
export interface Admission {
  dataset: string;
  account: string;
  admitted: boolean;
  /**
   * `recorded`: no budget. `fixed-plan`: the account holds no other experiment and the plan's composed figure decides.
   * `renyi-filter`: everything on the account at one Renyi order, valid for experiments chosen after seeing others.
   */
  rule: 'recorded' | 'fixed-plan' | 'renyi-filter';
  budget: number | null;
  delta: number;
  /** Epsilon of what the account held before, as in `AccountSummary.total`; null when unbounded. */
  before: number | null;
  /** Tight epsilon of the envelope's own new entries; null when unbounded. */
  experiment: number | null;
  /** Epsilon of both together: tight under `fixed-plan` or while there is one experiment, else the filter's; null when unbounded. */
  after: number | null;
  /** The epsilon that the rule compared with the budget; null without a budget or when unbounded. */
  decisive: number | null;
}

/** What those who ran steps remember of entries, by id. */
export interface RememberedSteps {
  /** How many records they had. */
  records: ReadonlyMap<string, number>;
  /** Fingerprints of noise keys that nobody else had: records are of those who remember, and of no one else. */
  ownKeys: ReadonlyMap<string, string>;
}

export interface AccountSummary {
  account: string;
  digests: string[];
  budget: number | null;
  delta: number;
  /** Epsilon at `delta` of what is committed, by the accountant of `total`; null when unbounded. */
  committed: number | null;
  /** Of reserved and begun entries. */
  reserved: number | null;
  /**
   * Of both together: less than their sum. While one plan, fixed before any of it began, has the account to itself, at
   * most its tight figure, which covers the whole plan; otherwise what the Renyi filter counts.
   */
  total: number | null;
  /** Whose figure `total` is; null when unbounded. */
  accountant: Accountant | null;
  /** Budget minus what the Renyi filter counts: what is left for another experiment. Null without a budget. */
  remaining: number | null;
  /** Number of entries of training without DP. */
  unbounded: number;
  experiments: ExperimentSpending[];
  /** Exact figures of its records that may have left: they are in no figure. */
  waivers: LedgerWaiver[];
  /** Spending of the ledger, on whatever account, that was lost and is in no figure. */
  losses: LedgerLoss[];
}

/** What someone acknowledged as lost with an earlier ledger, an older copy or a secret. */
export interface LedgerLoss {
  problem: Discontinuity['problem'];
  /** Row of the acknowledgement: what came before is not all there. */
  row: number;
  author: string;
  reason: string;
}

/** What a spec waived on an account. */
export interface LedgerWaiver {
  waiver: string;
  reason: string;
  /** Row of the chain that says so. */
  row: number;
  /** Name of the spec. */
  experiment: string;
  planDigest: string;
}

export interface ExperimentSpending {
  experiment: string;
  workflowId: string;
  /** What the Renyi filter counts of the experiment at the account's delta; null when unbounded. */
  epsilon: number | null;
  /** The part of it that is committed, and the part that is reserved or begun. */
  committed: number | null;
  reserved: number | null;
  /** Tight figure of all its mechanisms as they were planned, given back ones included; null when unbounded. */
  plan: { epsilon: number; accountant: Accountant } | null;
  /** Steps charged beyond the plan, because they were repeated from another state. */
  repeatedSteps: number;
  entries: Record<EntryState, number>;
}

export interface CommittedEntry {
  entryId: string;
  workflowId: string;
  experiment: string;
  account: string;
  nodeKey: string;
  mechanism: Mechanism;
  mechanismDigest: string;
  committedAt: string;
}

/** What was looked at when a ledger was verified. */
export interface LedgerCheck {
  rows: number;
  /** Reservations of older versions, which do not name their data: their mechanism digests can't be recomputed. */
  unsealed: number;
}

export interface Ledger {
  /**
   * Finds the account of each dataset and remembers which records belong to it. Idempotent by digest. Throws
   * DATASET_OVERLAP when private data share records with another account and no decision acknowledges that.
   */
  register(registrations: readonly DatasetRegistration[]): Promise<RegisteredDataset[]>;
  /** Whether data of this digest were registered with their records, and registering them again would change nothing. */
  isRegistered(data: Pick<DatasetRegistration, 'dataset' | 'digest' | 'benchmark'>): Promise<boolean>;
  /** Accounts that private data were ever registered with. */
  privateAccounts(): Promise<string[]>;
  /**
   * Private accounts whose records public data hold, without those acknowledged for just these data. `pending`: private
   * data that are not registered yet. Throws LEDGER_MISMATCH when the rows were hashed under another secret.
   */
  privateSharers(data: PublicData, pending: readonly RowsOfAccount[]): Promise<string[]>;
  /** Someone's word that public data may hold records of `apartFrom` all the same. */
  acknowledgePublic(
    data: Pick<PublicData, 'dataset' | 'digest'>,
    decision: Pick<Decision, 'apartFrom' | 'author' | 'reason'>,
  ): Promise<void>;
  /**
   * Reserves all of the envelope or nothing. Entries of the same identity (workflow, node key, key epoch, dataset) are
   * charged once, however often this is called. Throws BUDGET_REFUSED; MECHANISM_MISMATCH when an identity comes
   * again with another mechanism; DATASET_UNREGISTERED for private data that were never registered.
   */
  reserve(envelope: Envelope): Promise<Receipt[]>;
  /**
   * Says of accounts that exact figures of their records may leave: a row each, for good, that no figure counts.
   * Idempotent by plan. Throws DATASET_UNREGISTERED.
   */
  recordWaiver(waived: PlanWaiver): Promise<void>;
  /** What `register` and then `reserve` would decide now, by account of the envelope; writes nothing. */
  quote(envelope: Envelope, registrations?: readonly DatasetRegistration[]): Promise<Admission[]>;
  /**
   * Starts an attempt and fences all earlier ones. The first fingerprint that is given binds the entry to that key: under
   * another one, steps that are recorded would get other noise, uncounted. Null: the attempt has no key, and can only
   * hand in what is there already. Throws RECEIPT_INVALID for an entry that was never reserved, NOISE_KEY_LOST for a
   * key that the entry is not bound to.
   *
   * @param keyFingerprint of the noise key: HMAC-SHA256 under it of the entry's id, hex
   */
  begin(receipt: Receipt, attempt: number | string, keyFingerprint: string | null): Promise<FencingToken>;
  /**
   * Resolves when the disk holds that `step` (from 0) is about to be used from the state of this digest. The same pair
   * again is the same application of the mechanism; every other one counts, and past the number that is reserved it
   * is charged. Throws FENCED, BUDGET_REFUSED, and RECEIPT_INVALID for a step that the mechanism does not have.
   *
   * @param batchSize number of records that were drawn for the step, which the ledger alone keeps; null where none are
   * @returns whether the chain has grown: it holds charges, not records of steps that are charged already; and how many
   *   records the entry has
   */
  recordStep(
    receipt: Receipt,
    token: FencingToken,
    step: number,
    stateDigest: string,
    batchSize?: number | null,
  ): Promise<{ isChained: boolean; records: number; isNew: boolean }>;
  /** Number of step records of an entry, by id; 0 when there is no such entry. */
  recordCount(entryId: string): Promise<number>;
  /** Throws FENCED when a newer attempt has begun. */
  checkFence(receipt: Receipt, token: FencingToken): Promise<void>;
  /** Idempotent. Throws FENCED, and MECHANISM_MISMATCH when the proof differs from the reservation. */
  commit(receipt: Receipt, token: FencingToken, proof: MechanismProof | null): Promise<void>;
  /**
   * Ends the workflow's attempts and gives back what was not used: entries never begun, and of begun ones the steps
   * that no attempt recorded, where those recorded have no gap. `reserve` takes them up again. Returns the number of
   * entries that gave something back. Idempotent.
   *
   * @param known what is remembered outside: an entry that has fewer records now gives nothing back, nor does one without
   *   records unless the key that it is bound to is only there
   */
  release(workflowId: string, known?: Partial<RememberedSteps>): Promise<number>;
  /** Changes an account's budget, up or down; null: recorded only. Throws ARGUMENT_INVALID for an unknown account. */
  setBudget(account: string, epsilon: number | null, why: { author: string; reason: string }): Promise<void>;
  /** The account that holds `dataset` (by name of account); null when it never spent. */
  accountSummary(dataset: string): Promise<AccountSummary | null>;
  accounts(): Promise<string[]>;
  /** Those of the entries that are committed in this ledger, by id. */
  committedEntries(entryIds: readonly string[]): Promise<Map<string, CommittedEntry>>;
  /** Rows of the chain about the entries of a workflow and the given ones, and about their accounts, in order, without private payloads. */
  rowsBehind(workflowId: string, entryIds: readonly string[]): Promise<ChainedRow[]>;
  /** State of the receipt's entry. Throws RECEIPT_INVALID when this ledger has none. */
  entryState(receipt: Receipt): Promise<EntryState>;
  /** Random id that was made with the ledger. */
  identity(): Promise<string>;
  /** Whether another file, or none, lies where this ledger's was opened: what is written here now is lost. */
  isReplaced(): boolean;
  /** What of the memory the ledger neither holds nor has acknowledged. */
  discontinuities(memory: LedgerMemory): Promise<Discontinuity[]>;
  /** Accepts the ledger in spite of them: a row of its own each, with author and reason. */
  acknowledge(found: readonly Discontinuity[], why: { author: string; reason: string }): Promise<void>;
  /** What was acknowledged as lost, in the order of its rows: it is in no figure of this ledger. */
  losses(): Promise<LedgerLoss[]>;
  /** Sequence number and hash of the newest row of the chain. */
  head(): Promise<{ sequence: number; hash: string }>;
  /**
   * Recomputes the chain and, from its rows alone, every account, entry, mechanism digest, sum and step digest. Throws
   * LEDGER_CORRUPT naming the first thing that is wrong.
   */
  verify(): Promise<LedgerCheck>;
  close(): Promise<void>;
}
