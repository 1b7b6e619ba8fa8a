/** @file What the ledger's rows amount to: a pure reducer from rows to accounts, entries and sums. */

import { canonicalJson } from '../../schemas/canonical-json.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { applicationsOf } from './admission.ts';
import type { ChainedRow } from './chain.ts';
import type { LedgerTables } from './schema.ts';
import { holdingOf } from './writer.ts';

type Tables = Pick<LedgerTables, 'accounts' | 'entries' | 'holdings'>;

/** An entry as far as the chain tells of it: step records in between stand in a table of their own. */
export type ReplayedEntry = Omit<Tables['entries'], 'steps_started' | 'records' | 'records_hash'> & {
  /** Number of step records and the hash over them at each row that names them, in order. */
  anchors: { records: number; hash: string; row: number }[];
};

export interface LedgerState {
  accounts: Map<string, Tables['accounts']>;
  /** Account by dataset digest. */
  digests: Map<string, string>;
  entries: Map<string, ReplayedEntry>;
  /** By account, then by key of the mechanism. */
  holdings: Map<string, Map<string, Tables['holdings']>>;
}

export const emptyState = (): LedgerState => ({
  accounts: new Map(),
  digests: new Map(),
  entries: new Map(),
  holdings: new Map(),
});

/** Payload of a row; what older rows lack is undefined. */
interface Payload {
  delta?: number;
  budget?: number | null;
  digest?: string;
  workflowId?: string;
  experiment?: string;
  planDigest?: string;
  nodeId?: string;
  nodeKey?: string;
  keyEpoch?: number;
  mechanism?: Mechanism;
  mechanismDigest?: string;
  statedBudget?: number | null;
  charged?: number;
  admittedBy?: string | null;
  fixedPlan?: boolean;
  token?: number;
  keyFingerprint?: string | null;
  proof?: unknown;
  records?: number;
  recordsHash?: string;
}

/** Applies `row` to `state`, which it changes; returns what is wrong with it, or null. */
export function replayRow(state: LedgerState, row: ChainedRow): string | null {
  const payload = JSON.parse(row.payload) as Payload;
  switch (row.kind) {
    case 'account':
      state.accounts.set(row.account, {
        name: row.account,
        delta: payload.delta!,
        budget: payload.budget ?? null,
        fixed_plan: null,
        whole: 0,
      });
      return null;
    case 'budget': {
      const account = state.accounts.get(row.account);
      if (account === undefined) return `row ${row.sequence} speaks of an account that no row opened`;
      account.delta = payload.delta ?? account.delta;
      account.budget = payload.budget ?? null;
      return null;
    }
    case 'digest':
      state.digests.set(payload.digest!, row.account);
      return null;
    case 'registered':
    case 'acknowledged':
      return null;
    case 'reserved':
      return reserved(state, row, payload);
    case 'begun':
    case 'ended':
    case 'extended':
    case 'reduced':
    case 'committed':
    case 'released':
      return moved(state, row, payload);
    default:
      return `row ${row.sequence} is of the unknown kind ${row.kind}`;
  }
}

function reserved(state: LedgerState, row: ChainedRow, payload: Payload): string | null {
  const mechanism = payload.mechanism!;
  const known = state.entries.get(row.entryId!);
  if (known !== undefined && known.state !== 'released') return `row ${row.sequence} reserves an entry a second time`;
  const entry: ReplayedEntry = known ?? {
    id: row.entryId!,
    account: row.account,
    workflow_id: payload.workflowId!,
    experiment: payload.experiment!,
    plan_digest: payload.planDigest!,
    node_id: payload.nodeId!,
    node_key: payload.nodeKey!,
    key_epoch: payload.keyEpoch!,
    mechanism: canonicalJson(mechanism),
    mechanism_digest: payload.mechanismDigest!,
    state: 'reserved',
    fence: 0,
    ended: 0,
    charged: 0,
    stated_budget: payload.statedBudget ?? null,
    key_fingerprint: null,
    proof: null,
    changed_at: row.time,
    anchors: [],
  };
  state.entries.set(entry.id, entry);
  entry.state = 'reserved';
  entry.changed_at = row.time;
  charge(state, entry, payload.charged ?? applicationsOf(mechanism));
  return admitted(state, row, payload, entry);
}

/** Which states each kind of row may follow. */
const before: Record<string, readonly string[]> = {
  begun: ['reserved', 'begun'],
  ended: ['begun'],
  extended: ['begun'],
  reduced: ['begun'],
  committed: ['begun'],
  released: ['reserved'],
};

function moved(state: LedgerState, row: ChainedRow, payload: Payload): string | null {
  const entry = state.entries.get(row.entryId!);
  if (entry === undefined) return `row ${row.sequence} speaks of an entry that no row reserved`;
  if (!before[row.kind]!.includes(entry.state)) {
    return `row ${row.sequence} makes an entry that was ${entry.state} ${row.kind}`;
  }
  entry.changed_at = row.time;
  if (payload.records !== undefined) {
    entry.anchors.push({ records: payload.records, hash: payload.recordsHash!, row: row.sequence });
  }
  if (row.kind === 'begun' || row.kind === 'ended' || row.kind === 'reduced') entry.fence = payload.token!;
  if (row.kind === 'begun') Object.assign(entry, { ended: 0, key_fingerprint: payload.keyFingerprint ?? null });
  if (row.kind === 'ended') entry.ended = 1;
  if (row.kind === 'committed') entry.proof = canonicalJson(payload.proof);
  if (row.kind === 'begun' || row.kind === 'committed' || row.kind === 'released') entry.state = row.kind;
  charge(state, entry, payload.charged ?? (row.kind === 'released' ? 0 : entry.charged));
  return row.kind === 'extended' ? admitted(state, row, payload, entry) : null;
}

/** What an account remembers of an admission; older rows say nothing of it, and such plans count as not fixed. */
function admitted(state: LedgerState, row: ChainedRow, payload: Payload, entry: ReplayedEntry): string | null {
  const account = state.accounts.get(row.account);
  if (account === undefined) return `row ${row.sequence} speaks of an account that no row opened`;
  account.fixed_plan = payload.fixedPlan === true ? entry.workflow_id : null;
  if (payload.admittedBy === 'fixed-plan') account.whole = 1;
  return null;
}

function charge(state: LedgerState, entry: ReplayedEntry, applications: number): void {
  const difference = applications - entry.charged;
  entry.charged = applications;
  if (difference === 0) return;
  let held = state.holdings.get(entry.account);
  if (held === undefined) state.holdings.set(entry.account, (held = new Map()));
  const holding = holdingOf(JSON.parse(entry.mechanism) as Mechanism);
  const row = held.get(holding.mechanism_key);
  if (row === undefined) held.set(holding.mechanism_key, { account: entry.account, ...holding, count: difference });
  else row.count += difference;
  if (difference > 0 || [...held.values()].some(({ count }) => count !== 0)) return;
  // An account that holds nothing is as new.
  const account = state.accounts.get(entry.account);
  if (account !== undefined) Object.assign(account, { fixed_plan: null, whole: 0 });
}
