/** @file What the ledger promises: one account a dataset, entries that are charged once, and nothing over budget. */

import type { Accountant } from '../accounting/index.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { Mechanism } from '../../schemas/plan.ts';

/** `begun` entries may have spent all they reserved; only `released` ones, provably never begun, cost nothing. */
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
  /** Tight epsilon of what the account held before; null when unbounded. */
  before: number | null;
  /** Tight epsilon of the envelope's own entries; null when unbounded. */
  experiment: number | null;
  /** Tight epsilon of both together; null when unbounded. */
  after: number | null;
  /** The epsilon that the rule compared with the budget; null without a budget or when unbounded. */
  decisive: number | null;
}

export interface AccountSummary {
  account: string;
  digests: string[];
  budget: number | null;
  delta: number;
  /** Tight epsilon at `delta`; null when unbounded. */
  committed: number | null;
  /** Of reserved and begun entries. */
  reserved: number | null;
  /** Of both together: less than their sum. */
  total: number | null;
  accountant: Accountant | null;
  /** Budget minus what the Renyi filter counts; null without a budget. */
  remaining: number | null;
  /** Number of entries of training without DP. */
  unbounded: number;
  experiments: ExperimentSpending[];
}

export interface ExperimentSpending {
  experiment: string;
  workflowId: string;
  epsilon: number | null;
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

export interface Ledger {
  /**
   * Reserves all of the envelope or nothing. Entries of the same identity (workflow, node key, key epoch, dataset) are
   * charged once, however often this is called. Throws BUDGET_REFUSED, and MECHANISM_MISMATCH when an identity comes
   * again with another mechanism.
   */
  reserve(envelope: Envelope): Promise<Receipt[]>;
  /** What `reserve` would decide now, by account of the envelope; writes nothing. */
  quote(envelope: Envelope): Promise<Admission[]>;
  /** Starts an attempt and fences all earlier ones. Throws RECEIPT_INVALID for an entry that was never reserved. */
  begin(receipt: Receipt, attempt: number | string): Promise<FencingToken>;
  /** Resolves when the disk holds that `step` (from 0) is about to be used. Throws FENCED; RECEIPT_INVALID past the reservation. */
  recordStep(receipt: Receipt, token: FencingToken, step: number, stateDigest: string): Promise<void>;
  /** Throws FENCED when a newer attempt has begun. */
  checkFence(receipt: Receipt, token: FencingToken): Promise<void>;
  /** Idempotent. Throws FENCED, and MECHANISM_MISMATCH when the proof differs from the reservation. */
  commit(receipt: Receipt, token: FencingToken, proof: MechanismProof | null): Promise<void>;
  /** Gives back what the workflow reserved and never began; returns the number of entries. Idempotent. */
  release(workflowId: string): Promise<number>;
  /** Changes an account's budget, up or down; null: recorded only. Throws ARGUMENT_INVALID for an unknown account. */
  setBudget(account: string, epsilon: number | null, why: { author: string; reason: string }): Promise<void>;
  /** The account that holds `dataset` (by name of account); null when it never spent. */
  accountSummary(dataset: string): Promise<AccountSummary | null>;
  accounts(): Promise<string[]>;
  /** Those of the entries that are committed in this ledger, by id. */
  committedEntries(entryIds: readonly string[]): Promise<Map<string, CommittedEntry>>;
  /** State of the receipt's entry. Throws RECEIPT_INVALID when this ledger has none. */
  entryState(receipt: Receipt): Promise<EntryState>;
  /** Sequence number and hash of the newest row of the chain. */
  head(): Promise<{ sequence: number; hash: string }>;
  /** Recomputes the chain; throws LEDGER_CORRUPT naming the first row that is wrong. */
  verify(): Promise<{ rows: number }>;
  close(): Promise<void>;
}
