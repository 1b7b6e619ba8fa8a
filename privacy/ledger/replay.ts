/** @file What the ledger's rows amount to: a pure reducer from rows to accounts, entries and sums. */

import { canonicalJson } from '../../schemas/canonical-json.ts';
import type { Mechanism } from '../../schemas/plan.ts';
import { applicationsOf } from './admission.ts';
import type { ChainedRow } from './chain.ts';
import { payloadOf, type Payload } from './payload.ts';
import { entryId, sealMechanism } from './receipt.ts';
import { accountDigest } from './registration.ts';
import type { LedgerTables } from './schema.ts';
import { holdingOf } from './writer.ts';

type Tables = Pick<LedgerTables, 'accounts' | 'entries' | 'holdings'>;

/** An entry as far as the chain tells of it: step records in between stand in a table of their own. */
export type ReplayedEntry = Omit<Tables['entries'], 'steps_started' | 'records' | 'records_hash'> & {
  /** Number of step records and the hash over them at each row that names them, in order. */
  anchors: { records: number; hash: string; row: number }[];
  /** Of the step records in order, as the commit says; null when it says nothing. */
  batchSizes: (number | null)[] | null;
};

export interface LedgerState {
  accounts: Map<string, Tables['accounts']>;
  /** Account by dataset digest. */
  digests: Map<string, string>;
  entries: Map<string, ReplayedEntry>;
  /** By account, then by key of the mechanism. */
  holdings: Map<string, Map<string, Tables['holdings']>>;
  /** By account: entries that have begun and are charged. */
  begun: Map<string, Set<string>>;
  /** Mechanism by its digest. */
  mechanisms: Map<string, string>;
  /** Only the rows of some entries are replayed, without private payloads: what an account must keep can't be told. */
  isPart: boolean;
  /** Reservations that name the data that their mechanism digest is of, and older ones, which do not. */
  reservations: { sealed: number; unsealed: number };
}

export const emptyState = ({ isPart } = { isPart: false }): LedgerState => ({
  accounts: new Map(),
  digests: new Map(),
  entries: new Map(),
  holdings: new Map(),
  begun: new Map(),
  mechanisms: new Map(),
  isPart,
  reservations: { sealed: 0, unsealed: 0 },
});

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

function isMechanism(value: unknown): value is Mechanism {
  if (typeof value !== 'object' || value === null) return false;
  const { kind, steps } = value as { kind?: unknown; steps?: unknown };
  return kind === 'unbounded' || kind === 'discrete-laplace' || (kind === 'poisson-gaussian' && isCount(steps));
}

/** Applies `row` to `state`, which it changes; returns what is wrong with it, or null. */
export function replayRow(state: LedgerState, row: ChainedRow): string | null {
  const payload = payloadOf(row, state);
  if (typeof payload === 'string') return `row ${row.sequence} ${payload}`;
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
    case 'digest': {
      if (typeof payload.digest !== 'string') return `row ${row.sequence} names no digest`;
      const owner = state.digests.get(payload.digest) ?? row.account;
      state.digests.set(payload.digest, owner);
      return owner === row.account ? null : `row ${row.sequence} moves the data of account ${owner} to ${row.account}`;
    }
    case 'registered':
    case 'acknowledged':
      return null;
    case 'waived':
      if (typeof payload.waiver !== 'string' || typeof payload.reason !== 'string')
        return `row ${row.sequence} names no waiver with a reason`;
      return state.accounts.has(row.account) ? null : `row ${row.sequence} speaks of an account that no row opened`;
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
  const { mechanism, mechanismDigest } = payload;
  if (!isMechanism(mechanism) || typeof mechanismDigest !== 'string' || row.entryId === null) {
    return `row ${row.sequence} reserves no mechanism`;
  }
  const known = state.entries.get(row.entryId);
  if (known !== undefined && known.state !== 'released') return `row ${row.sequence} reserves an entry a second time`;
  const written = canonicalJson(mechanism);
  const named = state.mechanisms.get(mechanismDigest) ?? written;
  if (named !== written || (known !== undefined && known.mechanism_digest !== mechanismDigest)) {
    return `row ${row.sequence} reserves another mechanism than its digest names`;
  }
  state.mechanisms.set(mechanismDigest, written);
  const unsealed = sealFault(state, row, payload);
  if (unsealed !== null) return `row ${row.sequence} ${unsealed}`;
  const entry: ReplayedEntry = known ?? {
    id: row.entryId,
    account: row.account,
    workflow_id: payload.workflowId!,
    experiment: payload.experiment!,
    plan_digest: payload.planDigest!,
    node_id: payload.nodeId!,
    node_key: payload.nodeKey!,
    key_epoch: payload.keyEpoch!,
    mechanism: written,
    mechanism_digest: mechanismDigest,
    state: 'reserved',
    fence: 0,
    ended: 0,
    charged: 0,
    stated_budget: payload.statedBudget ?? null,
    key_fingerprint: null,
    proof: null,
    changed_at: row.time,
    anchors: [],
    batchSizes: null,
  };
  const charged = payload.charged ?? applicationsOf(mechanism);
  const fault = chargeFault(state, row, entry, charged);
  if (fault !== null) return `row ${row.sequence} ${fault}`;
  state.entries.set(entry.id, entry);
  entry.state = 'reserved';
  entry.changed_at = row.time;
  charge(state, entry, charged);
  return admitted(state, row, payload, entry);
}

/**
 * Recomputes from the fields of a reservation what it is named by: the digest of its mechanism and its entry's id. Rows
 * of older versions do not name their data; the schema keeps those versions from writing after the first that does.
 */
function sealFault(
  { reservations, digests, accounts, isPart }: LedgerState,
  { account, entryId: id }: ChainedRow,
  { data, workflowId, nodeKey, keyEpoch, mechanism, mechanismDigest }: Payload,
): string | null {
  if (data === undefined) {
    if (workflowId === undefined) return 'names neither its data nor its workflow';
    reservations.unsealed += 1;
    return reservations.sealed > 0 ? 'does not name the data of its mechanism, as rows before it do' : null;
  }
  reservations.sealed += 1;
  const { dataset, digest, delta } = data;
  if (sealMechanism({ digest, delta }, mechanism!) !== mechanismDigest) {
    return `names mechanism digest ${mechanismDigest!.slice(0, 12)}, which is not that of its mechanism, data and delta`;
  }
  // A bundle does not say whose entries of other workflows are.
  const isHidden = isPart && workflowId === undefined;
  if (!isHidden && entryId(workflowId!, { nodeKey: nodeKey!, keyEpoch: keyEpoch!, dataset }) !== id) {
    return 'reserves an entry whose id is not that of its workflow, node and dataset';
  }
  const owner = digests.get(accountDigest({ dataset, digest }));
  if (owner !== account) return `charges account ${account} for data that belong to ${owner ?? 'none'}`;
  const least = accounts.get(account)?.delta;
  return least !== undefined && least > delta ? `is sealed at delta ${delta}, below that of its account` : null;
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
  if (payload.records !== undefined) {
    entry.anchors.push({ records: payload.records, hash: payload.recordsHash!, row: row.sequence });
  }
  const charged = payload.charged ?? (row.kind === 'released' ? 0 : entry.charged);
  const fault = chargeFault(state, row, entry, charged);
  if (fault !== null) return `row ${row.sequence} ${fault}`;
  entry.changed_at = row.time;
  if (row.kind === 'begun' || row.kind === 'ended' || row.kind === 'reduced') entry.fence = payload.token!;
  if (row.kind === 'begun') Object.assign(entry, { ended: 0, key_fingerprint: payload.keyFingerprint ?? null });
  if (row.kind === 'ended') entry.ended = 1;
  if (row.kind === 'committed') {
    Object.assign(entry, { proof: canonicalJson(payload.proof ?? null), batchSizes: payload.batchSizes ?? null });
  }
  if (row.kind === 'begun' || row.kind === 'committed' || row.kind === 'released') entry.state = row.kind;
  charge(state, entry, charged);
  return row.kind === 'extended' ? admitted(state, row, payload, entry) : null;
}

/** What forbids that `row` sets the charge of an entry to `charged`; null when its kind may. */
function chargeFault(state: LedgerState, row: ChainedRow, entry: ReplayedEntry, charged: number): string | null {
  if (row.account !== entry.account) return `charges an entry of account ${entry.account} to ${row.account}`;
  if (!isCount(charged)) return `charges ${String(charged)}, which is no number of applications`;
  const mechanism = JSON.parse(entry.mechanism) as Mechanism;
  const planned = applicationsOf(mechanism);
  const records = entry.anchors.at(-1)?.records ?? 0;
  const change = `charges ${charged} in place of ${entry.charged}`;
  switch (row.kind) {
    case 'reserved':
    case 'committed':
      if (charged < planned) return `charges ${charged} of the ${planned} applications of its mechanism`;
      return charged < Math.max(entry.charged, records) ? change : null;
    case 'extended':
      return charged < Math.max(entry.charged, records) ? change : null;
    case 'reduced':
      if (charged > entry.charged) return change;
      if (charged < records) return `charges ${charged}, fewer than its ${records} step records`;
      if (mechanism.kind === 'unbounded') return 'gives back steps that nobody counts';
      return charged < entry.charged && keepsWhole(state, entry.account) ? 'gives back what its account keeps' : null;
    case 'released': {
      if (state.isPart) return charged === 0 || charged === entry.charged ? null : change;
      const kept = keepsWhole(state, entry.account) ? entry.charged : 0;
      return charged === kept ? null : `${change}, what its account keeps is ${kept}`;
    }
    default:
      return charged === entry.charged ? null : change;
  }
}

/** Whether the account gives nothing back: see `giveBack`. */
const keepsWhole = ({ accounts, begun, isPart }: LedgerState, account: string): boolean =>
  !isPart && accounts.get(account)?.whole === 1 && (begun.get(account)?.size ?? 0) > 0;

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
  let begun = state.begun.get(entry.account);
  if (begun === undefined) state.begun.set(entry.account, (begun = new Set()));
  if (entry.charged > 0 && entry.fence > 0) begun.add(entry.id);
  else begun.delete(entry.id);
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
