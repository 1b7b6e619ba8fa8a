/**
 * @file True spending, from the logs that training synced where it used noise, held against what the ledger says. Reads
 * the ledger's tables by itself and uses none of its sums.
 */

import { readFileSync } from 'node:fs';

import { composedEpsilon, type MechanismEvent } from '../../privacy/accounting/index.ts';
import type { Ledger } from '../../privacy/ledger/index.ts';
import type { SpendingRecord } from '../../privacy/spending-log.ts';
import { canonicalJson } from '../../schemas/canonical-json.ts';
import type { Mechanism } from '../../schemas/plan.ts';

export type RunStatement = (statement: string) => Promise<Record<string, unknown>[]>;

/** What is known of an experiment without asking the ledger. */
export interface Witness {
  workflowId: string;
  spendingLog: string;
  /** Processes of it that were killed: each may have announced one step that it did not use. */
  deaths: number;
  /** It ran to its end and gave back what it did not need. */
  ended: boolean;
  /** Other hosts could have recorded steps, for they can make its keys: without a record all stays charged. */
  sharesKeys: boolean;
  completed: boolean;
}

export interface Finding {
  /** Uses of noise that were logged, equal ones once. */
  spent: number;
  /** Uses that the ledger charges. */
  charged: number;
  /** Of entries that are charged less than was spent. */
  underCounted: number;
  /** Charged beyond what was spent and what was in flight. */
  overCounted: number;
  problems: string[];
}

interface EntryRow {
  id: string;
  account: string;
  workflow_id: string;
  node_key: string;
  node_id: string;
  mechanism: string;
  state: string;
  charged: number;
}

function readSpending(file: string): SpendingRecord[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const records = text.split('\n').filter((line) => line !== '');
  return [...new Set(records)].map((line) => JSON.parse(line) as SpendingRecord);
}

const plannedUses = (mechanism: Mechanism): number => (mechanism.kind === 'poisson-gaussian' ? mechanism.steps : 1);

function eventOf(mechanism: Mechanism, count: number): MechanismEvent {
  if (mechanism.kind === 'unbounded') throw new TypeError('no trial trains without DP');
  if (mechanism.kind === 'discrete-laplace') return { mechanism: mechanism.kind, scale: mechanism.scale, count };
  const { kind, samplingProbability, noiseMultiplier } = mechanism;
  return { mechanism: kind, samplingProbability, noiseMultiplier, count };
}

/** What decides the numbers of a noise. */
const nameOfNoise = ({ key, step, digest }: SpendingRecord): string => `${key} ${step} ${digest}`;

/** Whose noise a record is: a node's training, or its release of test counts. */
const nameInLog = ({ node_key: nodeKey }: EntryRow, mechanism: Mechanism): string =>
  mechanism.kind === 'discrete-laplace' ? `${nodeKey}/release` : nodeKey;

export async function compareWithLedger(
  ledger: Ledger,
  execute: RunStatement,
  witnesses: readonly Witness[],
): Promise<Finding> {
  const problems: string[] = [];
  const entries = (await execute('select * from entries')) as unknown as EntryRow[];
  const steps = await execute('select entry_id, step, digest from entry_steps');
  const wholeAccounts = new Set(
    (await execute('select name from accounts where whole = 1')).map(({ name }) => name as string),
  );
  const finding: Finding = { spent: 0, charged: 0, underCounted: 0, overCounted: 0, problems };
  const trueEvents = new Map<string, MechanismEvent[]>();
  const logs = new Map(witnesses.map(({ spendingLog }) => [spendingLog, new Set(readSpending(spendingLog))] as const));
  for (const witness of witnesses) {
    const records = logs.get(witness.spendingLog)!;
    for (const entry of entries.filter(({ workflow_id }) => workflow_id === witness.workflowId)) {
      const mechanism = JSON.parse(entry.mechanism) as Mechanism;
      const own = [...records].filter(({ nodeKey }) => nodeKey === nameInLog(entry, mechanism));
      for (const record of own) {
        records.delete(record);
        if (canonicalJson({ ...record.mechanism }) !== entry.mechanism) {
          problems.push(`${entry.node_id} used another mechanism than was reserved`);
        }
      }
      if (new Set(own.map(nameOfNoise)).size < own.length) {
        problems.push(`${entry.node_id} added one noise to two sums`);
      }
      const announced = new Set(
        steps
          .filter(({ entry_id: id }) => id === entry.id)
          .map(({ step, digest }) => `${Number(step)} ${String(digest)}`),
      );
      const silent = own.filter(({ step, digest }) => !announced.has(`${step} ${digest}`));
      if (silent.length > 0) problems.push(`${entry.node_id} used noise of ${silent.length} steps unrecorded`);
      if (announced.size - own.length > witness.deaths) {
        problems.push(`${entry.node_id} recorded ${announced.size} steps, used ${own.length}, died ${witness.deaths}`);
      }
      judgeEntry({ entry, mechanism, spent: own.length, announced: announced.size }, witness, wholeAccounts, finding);
      const events = trueEvents.get(entry.account) ?? [];
      if (own.length > 0) events.push(eventOf(mechanism, own.length));
      trueEvents.set(entry.account, events);
    }
  }
  for (const { size } of logs.values())
    if (size > 0) problems.push(`noise was used ${size} times that no entry is for`);
  await compareSums(execute, entries, problems);
  await compareAccounts(ledger, trueEvents, problems);
  return finding;
}

function judgeEntry(
  of: { entry: EntryRow; mechanism: Mechanism; spent: number; announced: number },
  { deaths, ended, completed, sharesKeys }: Witness,
  wholeAccounts: ReadonlySet<string>,
  finding: Finding,
): void {
  const { entry, mechanism, spent, announced } = of;
  const { state, node_id: nodeId } = entry;
  const charged = Number(entry.charged);
  finding.spent += spent;
  finding.charged += charged;
  const { problems } = finding;
  const describe = `${nodeId} (${state}) spent ${spent}, recorded ${announced}, charged ${charged}`;
  if (charged < spent) {
    finding.underCounted += spent - charged;
    problems.push(`under-count: ${describe}`);
  }
  if (completed && state !== 'committed') problems.push(`${nodeId} is ${state} although its experiment completed`);
  if (ended && state === 'reserved') problems.push(`${nodeId} is reserved although its experiment ended`);
  const isKept = wholeAccounts.has(entry.account);
  if (state === 'released' && charged > 0 && !isKept) problems.push(`charged although never begun: ${describe}`);
  // What a process had in hand when it died, at most one step each; and all that may still be used.
  const whole = Math.max(plannedUses(mechanism), announced);
  const mayGoOn = !ended || isKept || (sharesKeys && announced === 0);
  const most = state === 'committed' || !mayGoOn ? spent + deaths : whole;
  if (charged > Math.min(most, whole)) {
    finding.overCounted += charged - Math.min(most, whole);
    problems.push(`over-count: ${describe}, at most ${Math.min(most, whole)} in flight`);
  }
}

/** The newest row of an entry that says how much is charged, by a sum of its own. */
async function compareSums(execute: RunStatement, entries: readonly EntryRow[], problems: string[]): Promise<void> {
  const charged = new Map<string, number>();
  for (const row of await execute('select entry_id, payload from ledger_rows order by sequence')) {
    const { charged: count } = JSON.parse(row['payload'] as string) as { charged?: number };
    if (count !== undefined) charged.set(row['entry_id'] as string, count);
  }
  const sums = new Map<string, number>();
  for (const { id, account, mechanism, charged: count } of entries) {
    if (charged.get(id) !== Number(count)) problems.push(`entry ${id} holds ${count}, its rows ${charged.get(id)}`);
    const holding = `${account} ${canonicalJson({ ...eventOf(JSON.parse(mechanism) as Mechanism, 1) })}`;
    sums.set(holding, (sums.get(holding) ?? 0) + (charged.get(id) ?? 0));
  }
  for (const { account, event, count } of await execute('select account, event, count from holdings')) {
    const holding = `${String(account)} ${String(event)}`;
    if ((sums.get(holding) ?? 0) !== Number(count)) {
      problems.push(`account ${String(account)} holds ${String(count)} uses, its rows say ${sums.get(holding)}`);
    }
    sums.delete(holding);
  }
  for (const [holding, count] of sums) if (count !== 0) problems.push(`no account holds ${holding}`);
}

/** Relative error of two ways to compute one epsilon. */
const tolerance = 1e-6;

async function compareAccounts(
  ledger: Ledger,
  spent: ReadonlyMap<string, MechanismEvent[]>,
  problems: string[],
): Promise<void> {
  for (const [account, events] of spent) {
    const summary = (await ledger.accountSummary(account))!;
    const { total, budget, delta } = summary;
    const truth = events.length === 0 ? 0 : composedEpsilon(events, delta).epsilon;
    if (total === null || budget === null) {
      problems.push(`account ${account} has no figure`);
      continue;
    }
    if (truth > total * (1 + tolerance)) problems.push(`account ${account} states ${total}, ${truth} was spent`);
    if (total > budget * (1 + tolerance)) problems.push(`account ${account} states ${total} of a budget of ${budget}`);
    if (truth > budget * (1 + tolerance)) problems.push(`account ${account} spent ${truth} of a budget of ${budget}`);
  }
}
