/** @file Wires data, accounting, store and ledger to the compiler. */

import { readFile } from 'node:fs/promises';

import type {
  AccountContext,
  AccountFigures,
  AccountRequest,
  CacheQuery,
  CompileHost,
  DatasetFindings,
} from '../compiler/index.ts';
import { type DatasetRecords, type DatasetSource, inspectDataset, readDigested } from '../datasets/index.ts';
import { composedEpsilon } from '../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../privacy/calibration.ts';
import {
  type DatasetRegistration,
  type Ledger,
  envelopeAccount,
  envelopeEntry,
  ledgerSecret,
  markerFile,
  paymentOf,
} from '../privacy/ledger/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { ledgerUrl, statePaths } from '../stack/paths.ts';
import { openProjectLedger, requireContinuity, requireLedger } from '../stack/project-ledger.ts';
import { openStore } from '../store/index.ts';
import { PublicDataCheck } from './public-data-check.ts';
import { accountsAsked, registrationOf, type Registrations } from './registrations.ts';
import { fetchHubModel } from '../learning/formats/hub.ts';
import { modelDigest } from '../learning/formats/model-digest.ts';

export interface OfflineOptions {
  /** Also check the rows of private datasets; what is found is then non-private. */
  inspectPrivate?: boolean;
  /** Called with what was read of each dataset without faults. */
  onRecords?: (source: DatasetSource, digest: string, records: DatasetRecords) => Promise<void>;
}

/** Reads spec and data; neither store nor ledger. */
export function offlineHost(options: OfflineOptions = {}): CompileHost {
  return {
    readSpec,
    inspectDataset: (source) => findings(source, options),
    hubModel,
    modelDigest,
    calibrate: calibrateNoiseMultiplier,
    compose: composedEpsilon,
    cached: null,
    accounts: null,
  };
}

/** A host that also keeps what the ledger must be told of the data before they are spent on. */
export interface LedgerHost extends CompileHost {
  /** Of datasets that the ledger does not know yet. */
  registrations: Registrations;
}

/**
 * As {@link offlineHost}, and looks results up in the store and accounts in the ledger. Use it inside
 * {@link withCompileHost}, which closes the ledger.
 */
export async function withCompileHost<T>(work: (host: LedgerHost) => Promise<T>): Promise<T> {
  const registrations: Registrations = new Map();
  let opened: Promise<Ledger> | null = null;
  const ledger = (): Promise<Ledger> => (opened ??= openProjectLedger(null));
  let spec = '';
  const openData = new PublicDataCheck(ledger);
  const onRecords = async (source: DatasetSource, digest: string, records: DatasetRecords): Promise<void> => {
    if (source.sensitivity === 'public') return openData.add(source, digest, records);
    const asked: DatasetRegistration[] = [];
    const benchmark = source.sensitivity === 'benchmark';
    for (const account of accountsAsked(source)) {
      if (await (await ledger()).isRegistered({ dataset: account, digest, benchmark })) continue;
      asked.push(await registrationOf(source, account, digest, records));
    }
    for (const registration of asked) registrations.set(registration.dataset, registration);
    if (source.sensitivity === 'private') await openData.holdAgainst(asked);
  };
  try {
    const offline = offlineHost({ onRecords });
    return await work({
      ...offline,
      readSpec: (path) => {
        spec = path;
        return readSpec(path);
      },
      inspectDataset: async (source) => {
        // Before a ledger or a secret is made in the place of the one that the project names.
        if (source.sensitivity === 'private') {
          requireLedger(markerFile(spec));
          await requireContinuity(await ledger(), markerFile(spec));
        }
        return offline.inspectDataset(source);
      },
      cached: async (queries) => lookUp(queries, await ledger()),
      accounts: async (requests, context) => figures(requests, context, await ledger(), registrations),
      registrations,
    });
  } finally {
    await (await (opened as Promise<Ledger> | null)?.catch(() => null))?.close();
  }
}

/** From the hub that Hugging Face's own tools would ask. */
const hubModel: CompileHost['hubModel'] = ({ reference }) =>
  fetchHubModel(reference, {
    cache: statePaths.models(),
    endpoint: process.env['HF_ENDPOINT'],
    token: process.env['HF_TOKEN'],
  });

async function lookUp(queries: readonly CacheQuery[], ledger: Ledger): Promise<Set<string>> {
  const store = openStore();
  const found = new Set<string>();
  for (const { key, charges } of queries) {
    const artifact = await store.lookup(key);
    if (artifact && (await paymentOf(ledger, artifact.manifest.paidBy, charges))) found.add(key);
  }
  return found;
}

async function figures(
  requests: readonly AccountRequest[],
  { experiment, shown }: AccountContext,
  ledger: Ledger,
  registrations: Registrations,
): Promise<AccountFigures[]> {
  const envelope = {
    // No run has this id: the question is what a new one would be told.
    workflowId: `plan/${experiment}`,
    experiment,
    planDigest: '',
    accounts: requests.map(({ account, dataset }) => envelopeAccount(account, { [dataset.name]: dataset })),
    entries: requests.flatMap(({ pending }) => pending.map(({ node, charge }) => envelopeEntry(node, charge, 0))),
  };
  const concerned = [...requests.map(({ account }) => account), ...shown];
  const unknown = concerned.flatMap((account) => registrations.get(account) ?? []);
  const verdicts = await ledger.quote(envelope, unknown);
  const byDataset = new Map(verdicts.map((verdict) => [verdict.dataset, verdict]));
  return Promise.all(
    requests.map(async ({ account: name, pending }) => {
      const { before, after, budget, rule, admitted, decisive, account } = byDataset.get(name)!;
      const unboundedBefore = (await ledger.accountSummary(account))?.unbounded ?? 0;
      // What asks for nothing new is never refused, even where a budget was lowered below what is spent.
      const fits = admitted || pending.length === 0;
      return { ledgerAccount: account, before, after, budget, rule, admitted: fits, decisive, unboundedBefore };
    }),
  );
}

async function readSpec(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'does not exist' : code === 'EISDIR' ? 'is a folder' : `can't be read (${code})`;
    throw new EpsilonflowError('SPEC_FILE_MISSING', `Spec ${path} ${why}`, {
      hint: 'Give the path of a YAML file; experiments/quickstart.yaml is one to start from.',
      cause,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new EpsilonflowError('SPEC_SYNTAX', `Spec ${path} is not valid UTF-8`, {
      hint: 'Save it as UTF-8.',
      position: { file: path, line: 1, column: 1 },
      cause,
    });
  }
}

async function findings(source: DatasetSource, options: OfflineOptions): Promise<DatasetFindings> {
  const faults = await inspectDataset(source, { inspectPrivate: options.inspectPrivate === true });
  if (faults.length > 0) return { faults, digest: null, trainRecords: null };
  const secret = source.sensitivity === 'private' ? await ledgerSecret(ledgerUrl()) : null;
  const { digest, records } = await readDigested(source, secret);
  await options.onRecords?.(source, digest, records);
  return { faults, digest, trainRecords: records.train?.length ?? null };
}
