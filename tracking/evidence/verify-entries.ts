/** @file What a bundle's ledger rows tell of entries, and whether an entry pays for what the plan charges. */

import { applicationsOf } from '../../privacy/ledger/admission.ts';
import { followChain, proofDifference, type ChainedRow, type LedgerLoss } from '../../privacy/ledger/index.ts';
import { entryId } from '../../privacy/ledger/receipt.ts';
import { accountDigest } from '../../privacy/ledger/registration.ts';
import { emptyState, replayRow, type ReplayedEntry } from '../../privacy/ledger/replay.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import { accountOf } from '../../schemas/charges.ts';
import type { Mechanism, NodeCharge, Plan } from '../../schemas/plan.ts';
import type { AccountStatement } from '../release/card.ts';
import type { Evidence } from './bundle.ts';
import type { Findings } from './findings.ts';

/** A ledger entry, as its rows tell of it. */
export interface EntryEvidence extends Pick<
  ReplayedEntry,
  'account' | 'node_key' | 'mechanism' | 'mechanism_digest' | 'charged' | 'proof'
> {
  /** Whether the run reserved it. */
  isOwn: boolean;
  committed: boolean;
  /** Steps that ran again from another state, as its commit counted them. */
  repeated: number;
}

export interface LedgerEvidence {
  /** By id. */
  entries: ReadonlyMap<string, EntryEvidence>;
  /** Account by dataset digest. */
  accounts: ReadonlyMap<string, string>;
}

/** Follows the rows as far as they are there. `workflowId` is that of the run whose evidence they are. */
export function checkRows({ rows, head }: Evidence['ledger'], workflowId: string, findings: Findings): LedgerEvidence {
  const state = emptyState({ isPart: true });
  const repeated = new Map<string, number>();
  const own = new Set<string>();
  let before: ChainedRow | null = null;
  for (const row of rows) {
    findings.compare('ledger', `row ${row?.sequence}`, () => {
      const fault = orderFault(before, row, head) ?? alteration(row) ?? replayRow(state, row);
      before = row;
      return fault;
    });
    if (row?.kind === 'reserved' && isReservedBy(workflowId, row)) own.add(row.entryId!);
    if (row?.kind !== 'committed' || row.entryId === null) continue;
    findings.compare('proof', row.entryId.slice(0, 12), () => {
      const { proof, repeatedSteps = 0 } = JSON.parse(row.payload) as CommitPayload;
      repeated.set(row.entryId!, repeatedSteps);
      const known = state.entries.get(row.entryId!);
      return known ? proofDifference(JSON.parse(known.mechanism) as Mechanism, proof) : 'nothing was reserved for it';
    });
  }
  const entries = [...state.entries].map(([id, entry]): [string, EntryEvidence] => [
    id,
    { ...entry, isOwn: own.has(id), committed: entry.state === 'committed', repeated: repeated.get(id) ?? 0 },
  ]);
  return { entries: new Map(entries), accounts: state.digests };
}

/**
 * Whether a reservation is of the workflow: rows do not name theirs, but an entry's id is made of it. Rows of older
 * versions do.
 */
function isReservedBy(workflowId: string, row: ChainedRow): boolean {
  try {
    const payload = JSON.parse(row.payload) as ReservationPayload;
    if (payload.workflowId !== undefined) return payload.workflowId === workflowId;
    const { nodeKey, keyEpoch, data } = payload;
    return entryId(workflowId, { nodeKey, keyEpoch, dataset: data.dataset }) === row.entryId;
  } catch {
    // What is wrong with the row is told of above.
    return false;
  }
}

interface ReservationPayload {
  workflowId?: string;
  nodeKey: string;
  keyEpoch: number;
  data: { dataset: string };
}

interface CommitPayload {
  proof: MechanismProof | null;
  /** Older rows have no count. */
  repeatedSteps?: number;
}

/** What the rows say was lost of the ledger and is in none of its figures; rows that can't be read say nothing. */
export function lossesIn({ rows }: Evidence['ledger']): LedgerLoss[] {
  return rows.flatMap((row) => {
    if (row?.kind !== 'acknowledged') return [];
    try {
      const { problem, author, reason } = JSON.parse(row.payload) as LedgerLoss;
      return [{ problem, row: row.sequence, author, reason }];
    } catch {
      return [];
    }
  });
}

/** What the rows say was waived on an account. */
export function waiversIn({ rows }: Evidence['ledger'], account: string): AccountStatement['waivers'] {
  return rows.flatMap((row) => {
    if (row?.kind !== 'waived' || row.account !== account) return [];
    try {
      const { waiver, reason } = JSON.parse(row.payload) as AccountStatement['waivers'][number];
      return [{ waiver, reason, row: row.sequence }];
    } catch {
      return [];
    }
  });
}

function orderFault(before: ChainedRow | null, row: ChainedRow, head: Evidence['ledger']['head']): string | null {
  if ((before !== null && row.sequence <= before.sequence) || row.sequence > head.sequence) {
    return `row ${row.sequence} is out of order`;
  }
  if (before !== null && row.sequence === before.sequence + 1 && row.previousHash !== before.hash) {
    return `row ${row.sequence} does not follow the row before it`;
  }
  return row.sequence === head.sequence && row.hash !== head.hash
    ? `row ${row.sequence} is not the head that was recorded`
    : null;
}

/** Each row bears its own hash, also where the row before it is not at hand. */
function alteration(row: ChainedRow): string | null {
  const followed = followChain({ sequence: row.sequence - 1, hash: row.previousHash }, row);
  return typeof followed === 'string' ? followed : null;
}

/** Why an entry is not what `charge` asks for: mechanism, account and amount. Null when it is. */
export function chargeDifference(
  plan: Plan,
  charge: NodeCharge,
  entry: EntryEvidence,
  accounts: LedgerEvidence['accounts'],
): string | null {
  if (canonicalJson(charge.mechanism) !== entry.mechanism) return 'was charged for another mechanism';
  const dataset = plan.datasets[charge.dataset];
  if (dataset === undefined) return `was charged for dataset ${charge.dataset}, which the plan does not have`;
  const data = accountOf(charge);
  const account = accounts.get(accountDigest({ dataset: data, digest: dataset.digest }));
  if (account === undefined) return `was charged to account ${entry.account}; no row says that ${data} belongs there`;
  if (account !== entry.account) return `was charged to account ${entry.account}, ${data} belongs to ${account}`;
  const least = applicationsOf(charge.mechanism) + entry.repeated;
  return entry.committed && !(entry.charged >= least)
    ? `was charged for ${entry.charged} applications, it ran ${least}`
    : null;
}
