/** @file Checks the ledger against itself: the chain, then every table that is computed from its rows. */

import { followChain, genesis, stepsHash, type ChainHead } from './chain.ts';
import { corrupt } from './refusals.ts';
import { verifyRows } from './registration.ts';
import type { LedgerCheck } from './ledger.ts';
import { emptyState, replayRow, type LedgerState, type ReplayedEntry } from './replay.ts';
import type { EntryRow, LedgerTransaction } from './writer.ts';

const rowsAPage = 1000;

/**
 * Follows the chain and compares what its rows amount to with accounts, digests, entries, sums and step records.
 *
 * @returns the number of rows, and of reservations of older versions, which do not name their data: the digests of their
 *   mechanisms are compared with each other, not recomputed.
 * @throws EpsilonflowError LEDGER_CORRUPT naming the first thing that is wrong
 */
export async function verifyLedger(transaction: LedgerTransaction): Promise<LedgerCheck> {
  const { state, head } = await replayChain(transaction);
  await compareAccounts(transaction, state);
  await compareHoldings(transaction, state);
  await compareEntries(transaction, state);
  await verifyRows(transaction);
  return { rows: head.sequence, unsealed: state.reservations.unsealed };
}

async function replayChain(transaction: LedgerTransaction): Promise<{ state: LedgerState; head: ChainHead }> {
  const end = await transaction.selectFrom('ledger_head').selectAll().executeTakeFirst();
  if (end === undefined) throw corrupt('its head is missing');
  const state = emptyState();
  let head = genesis;
  for (;;) {
    const rows = await transaction
      .selectFrom('ledger_rows')
      .selectAll()
      .where('sequence', '>', head.sequence)
      .orderBy('sequence')
      .limit(rowsAPage)
      .execute();
    if (rows.length === 0) break;
    for (const stored of rows) {
      const { entry_id: entryId, previous_hash: previousHash, private_payload: privatePayload, ...rest } = stored;
      const row = { ...rest, sequence: Number(rest.sequence), entryId, previousHash, privatePayload };
      const next = followChain(head, row);
      if (typeof next === 'string') throw corrupt(next);
      head = next;
      const fault = replayRow(state, row);
      if (fault !== null) throw corrupt(fault);
    }
  }
  if (head.sequence < Number(end.sequence)) throw corrupt(`rows after ${head.sequence} are missing`);
  if (head.hash !== end.hash || head.sequence !== Number(end.sequence)) {
    throw corrupt('its newest row is not the one that its head names');
  }
  return { state, head };
}

/** Fields of `stored` that are not what `expected` says. */
function difference<T extends object>(stored: T, expected: Partial<T>): string | null {
  for (const [field, value] of Object.entries(expected)) {
    const found = stored[field as keyof T];
    const same = typeof value === 'number' && found !== null ? Number(found) === value : found === value;
    if (!same) return `${field} is ${String(found)}, its rows say ${String(value)}`;
  }
  return null;
}

/** Compares a table with what its rows should be; `expected` loses what was found. */
function compare<T extends object>(what: string, key: string, stored: T, expected: Map<string, Partial<T>>): void {
  const wanted = expected.get(key);
  if (wanted === undefined) throw corrupt(`${what} ${key} is in no row of the chain`);
  const fault = difference(stored, wanted);
  if (fault !== null) throw corrupt(`${what} ${key} was changed: ${fault}`);
  expected.delete(key);
}

function expectNone(what: string, left: ReadonlyMap<string, unknown>): void {
  for (const key of left.keys()) throw corrupt(`${what} ${key} is missing`);
}

async function compareAccounts(transaction: LedgerTransaction, { accounts, digests }: LedgerState): Promise<void> {
  for (const row of await transaction.selectFrom('accounts').selectAll().execute()) {
    compare('account', row.name, row, accounts);
  }
  expectNone('account', accounts);
  const owners = new Map([...digests].map(([digest, account]) => [digest, { account }]));
  for (const row of await transaction.selectFrom('account_digests').selectAll().execute()) {
    compare('dataset digest', row.digest, row, owners);
  }
  expectNone('dataset digest', owners);
}

async function compareHoldings(transaction: LedgerTransaction, { holdings }: LedgerState): Promise<void> {
  const expected = new Map(
    [...holdings].flatMap(([account, sums]) => [...sums].map(([key, sum]) => [`${account}, ${key}`, sum] as const)),
  );
  for (const row of await transaction.selectFrom('holdings').selectAll().execute()) {
    compare('sum of account', `${row.account}, ${row.mechanism_key}`, row, expected);
  }
  expectNone('sum of account', expected);
}

async function compareEntries(transaction: LedgerTransaction, { entries }: LedgerState): Promise<void> {
  let records = 0;
  for (let last = ''; ;) {
    const page: EntryRow[] = await transaction
      .selectFrom('entries')
      .selectAll()
      .where('id', '>', last)
      .orderBy('id')
      .limit(rowsAPage)
      .execute();
    if (page.length === 0) break;
    last = page.at(-1)!.id;
    for (const row of page) {
      const replayed = entries.get(row.id);
      if (replayed === undefined) throw corrupt(`entry ${row.id} is in no row of the chain`);
      const { anchors, batchSizes, ...expected } = replayed;
      compare('entry', row.id, row, new Map([[row.id, expected]]));
      await compareSteps(transaction, row, { anchors, batchSizes });
      records += row.records;
      entries.delete(row.id);
    }
  }
  expectNone('entry', entries);
  const { stored } = await transaction
    .selectFrom('entry_steps')
    .select(({ fn }) => fn.countAll().as('stored'))
    .executeTakeFirstOrThrow();
  if (Number(stored) !== records) throw corrupt(`there are ${String(stored)} step records, entries have ${records}`);
}

/** Recomputes the hash over an entry's step records, at each row of the chain that names it and at the end; compares batch sizes. */
async function compareSteps(
  transaction: LedgerTransaction,
  entry: EntryRow,
  { anchors, batchSizes }: Pick<ReplayedEntry, 'anchors' | 'batchSizes'>,
): Promise<void> {
  const most = Math.max(entry.records, ...anchors.map(({ records }) => records));
  const steps =
    most === 0
      ? []
      : await transaction
          .selectFrom('entry_steps')
          .selectAll()
          .where('entry_id', '=', entry.id)
          .orderBy('ordinal')
          .execute();
  const fault = (what: string): Error => corrupt(`step records of entry ${entry.id} (${entry.node_id}) ${what}`);
  const hashes = [''];
  let started = 0;
  for (const [index, { ordinal, step, digest }] of steps.entries()) {
    if (ordinal !== index + 1) throw fault(`lack number ${index + 1}`);
    hashes.push(stepsHash(hashes[index]!, step, digest));
    started = Math.max(started, step + 1);
  }
  for (const { records, hash, row } of anchors) {
    if (hashes[records] === undefined) throw fault(`are fewer than row ${row} says`);
    if (hashes[records] !== hash) throw fault(`up to number ${records} are not those of row ${row}`);
  }
  if (steps.length !== entry.records) throw fault(`are ${steps.length}, not ${entry.records}`);
  if (hashes[entry.records] !== entry.records_hash) throw fault(`were changed after row ${anchors.at(-1)?.row ?? 0}`);
  // Entries of the first schema counted steps without records.
  if (entry.steps_started < started) throw fault('go beyond the highest step');
  if (entry.charged < entry.records) throw fault('are more than what is charged');
  const differs = batchSizes?.findIndex((size, index) => steps[index]?.batch_size !== size) ?? -1;
  if (differs >= 0) throw fault(`have another batch size at number ${differs + 1} than was committed`);
}
