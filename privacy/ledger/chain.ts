/** @file Hash chain of the ledger's rows: a changed, deleted or reordered row breaks every hash after it. Pure. */

import { createHash } from 'node:crypto';

import { canonicalJson } from '../../schemas/canonical-json.ts';
import type { JsonValue } from '../../schemas/plan.ts';

export type EventKind =
  | 'account'
  | 'budget'
  | 'digest'
  | 'registered'
  | 'acknowledged'
  /** Exact figures of the account's records leave under a waiver: nothing is charged, and no figure counts them. */
  | 'waived'
  | 'reserved'
  | 'begun'
  /** The run of a begun entry ended: whoever still works on it may record nothing more. */
  | 'ended'
  /** More of an entry's mechanism is charged: a step was repeated from another state, or what was given back is needed. */
  | 'extended'
  /** Less of a begun entry is charged: its run ended, and only the recorded steps count. */
  | 'reduced'
  | 'committed'
  | 'released';

/** A row before it is chained. */
export interface LedgerFact {
  kind: EventKind;
  account: string;
  entryId: string | null;
  payload: JsonValue;
  /** What stays in the ledger: see `ChainedRow.privatePayload`. */
  privatePayload?: string | null;
}

export interface ChainedRow {
  sequence: number;
  /** ISO 8601, UTC. */
  time: string;
  kind: string;
  account: string;
  entryId: string | null;
  /** Canonical JSON. */
  payload: string;
  /**
   * What no bundle of evidence shows: canonical JSON with a random member, so that its SHA-256, which the payload holds as
   * `privateDigest`, tells nothing of it. Null or left out where there is none, left out of bundles.
   */
  privatePayload?: string | null;
  previousHash: string;
  hash: string;
}

export interface ChainHead {
  sequence: number;
  hash: string;
}

/** Head of the empty chain. */
export const genesis: ChainHead = { sequence: 0, hash: '0'.repeat(64) };

const rowHash = (row: Omit<ChainedRow, 'hash' | 'privatePayload'>): string =>
  createHash('sha256')
    .update(canonicalJson([row.previousHash, row.sequence, row.time, row.kind, row.account, row.entryId, row.payload]))
    .digest('hex');

/** What a payload names its private payload by. */
export const privateDigest = (privatePayload: string): string =>
  createHash('sha256').update(privatePayload).digest('hex');

export function chainRow(head: ChainHead, fact: LedgerFact, time: string): ChainedRow {
  const { kind, account, entryId, privatePayload = null } = fact;
  const payload =
    privatePayload === null
      ? fact.payload
      : { ...(fact.payload as Record<string, JsonValue>), privateDigest: privateDigest(privatePayload) };
  const row = {
    sequence: head.sequence + 1,
    time,
    kind,
    account,
    entryId,
    payload: canonicalJson(payload),
    previousHash: head.hash,
  };
  return { ...row, privatePayload, hash: rowHash(row) };
}

/** The next head, or what is wrong with `row` after `head`. */
export function followChain(head: ChainHead, row: ChainedRow): ChainHead | string {
  if (row.sequence !== head.sequence + 1) return `row ${head.sequence + 1} is missing (found ${row.sequence})`;
  if (row.previousHash !== head.hash) return `row ${row.sequence} does not follow the row before it`;
  if (rowHash(row) !== row.hash) return `row ${row.sequence} was changed after it was written`;
  return { sequence: row.sequence, hash: row.hash };
}

/** Hash over an entry's step records, up to and with the one given; the empty string before the first. */
export const stepsHash = (previous: string, step: number, stateDigest: string): string =>
  createHash('sha256')
    .update(canonicalJson([previous, step, stateDigest]))
    .digest('hex');
