/** @file Tells the ledger which records a plan's datasets hold, before anything is spent on them. */

import type { DatasetRecords, DatasetSource } from '../datasets/index.ts';
import {
  type DatasetRegistration,
  envelopeAccount,
  type KnownHead,
  headOf,
  ledgerSecret,
  markerFile,
  type PlanWaiver,
  type PublicData,
  publicRowsOf,
  rowsOf,
} from '../privacy/ledger/index.ts';
import { shownBenchmarksOf, splitOfAccount, waivedAccountsOf } from '../schemas/charges.ts';
import type { Plan } from '../schemas/plan.ts';
import { ledgerUrl } from '../stack/paths.ts';
import { ensureMarker, openProjectLedger } from '../stack/project-ledger.ts';
import { shortPath } from './output.ts';

/** By name of the account that each asks for. */
export type Registrations = Map<string, DatasetRegistration>;

/** The accounts that a dataset's splits ask for: training and validation records pay together, test records apart. */
export const accountsAsked = ({ name }: Pick<DatasetSource, 'name'>): string[] => [name, `${name}/test`];

/** What the ledger must know of the records that an account would pay for. */
export async function registrationOf(
  source: DatasetSource,
  account: string,
  digest: string,
  { train = [], validation = [], test = [] }: DatasetRecords,
): Promise<DatasetRegistration> {
  const records = splitOfAccount(account).split === 'test' ? [test] : [train, validation];
  const texts = function* (): Generator<string> {
    for (const split of records) for (const { text } of split) yield text;
  };
  const rows = rowsOf(texts(), await ledgerSecret(ledgerUrl()));
  return { dataset: account, digest, benchmark: source.sensitivity === 'benchmark', rows };
}

/** What the ledger holds against private accounts of data that are called public: all of their splits. */
export async function publicDataOf(
  { name }: Pick<DatasetSource, 'name'>,
  digest: string,
  records: DatasetRecords,
): Promise<PublicData> {
  const texts = function* (): Generator<string> {
    for (const split of Object.values(records)) for (const { text } of split) yield text;
  };
  return { dataset: name, digest, rows: publicRowsOf(texts(), await ledgerSecret(ledgerUrl())) };
}

/** Path of the marker that must name the ledger; null when the plan spends on public data only. */
export const markerOf = ({ privacy, datasets, spec }: Plan): string | null =>
  Object.keys(privacy).some((account) => datasets[splitOfAccount(account).dataset]!.sensitivity === 'private')
    ? markerFile(spec.file)
    : null;

/** Exact figures of private records that a plan lets leave. */
function waiversOf(plan: Plan): PlanWaiver[] {
  const { name: experiment, digest: planDigest, datasets, nodes, waivers } = plan;
  const waived = nodes.flatMap((node) => waivedAccountsOf(node, plan));
  return waivers.flatMap(({ name: waiver, reason }) => {
    const accounts = new Set(waived.filter((each) => each.waiver === waiver).map(({ account }) => account));
    if (accounts.size === 0) return [];
    const envelopes = [...accounts].sort().map((account) => envelopeAccount(account, datasets));
    return [{ waiver, reason, experiment, planDigest, accounts: envelopes }];
  });
}

/**
 * Registers what a plan would spend on, and records what it waives. Idempotent.
 *
 * @param say prints a line for people.
 * @returns the newest row of the ledger afterwards; null when the plan spends no privacy
 * @throws EpsilonflowError DATASET_OVERLAP, LEDGER_MISMATCH, LEDGER_ROLLED_BACK
 */
export async function registerPlan(
  plan: Plan,
  registrations: Registrations,
  say: (line: string) => void,
): Promise<KnownHead | null> {
  const marker = markerOf(plan);
  const ledger = await openProjectLedger(marker);
  try {
    const concerned = [...Object.keys(plan.privacy), ...shownBenchmarksOf(plan)];
    const wanted = concerned.flatMap((account) => registrations.get(account) ?? []);
    for (const { dataset, account } of await ledger.register(wanted)) {
      if (account !== dataset) say(`The records of ${dataset} are spent on in account ${account}.`);
    }
    for (const waived of waiversOf(plan)) await ledger.recordWaiver(waived);
    if (marker !== null && (await ensureMarker(ledger, marker))) {
      say(`${shortPath(marker)} names the privacy ledger of this project's private data: commit it.`);
    }
    return Object.keys(plan.privacy).length === 0 ? null : await headOf(ledger);
  } finally {
    await ledger.close();
  }
}
