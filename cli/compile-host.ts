/** @file Wires data, accounting, store and ledger to the compiler. */

import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import type { AccountFigures, AccountRequest, CacheQuery, CompileHost, DatasetFindings } from '../compiler/index.ts';
import { type DatasetSource, inspectDataset, readDigested } from '../datasets/index.ts';
import { composedEpsilon } from '../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../privacy/calibration.ts';
import { type Ledger, ledgerSecret, openLedger, paymentOf } from '../privacy/ledger/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { ledgerUrl } from '../stack/paths.ts';
import { openStore } from '../store/index.ts';

export interface OfflineOptions {
  /** Also check the rows of private datasets; what is found is then non-private. */
  inspectPrivate?: boolean;
}

/** Reads spec and data; neither store nor ledger. */
export function offlineHost(options: OfflineOptions = {}): CompileHost {
  return {
    readSpec,
    inspectDataset: (source) => findings(source, options.inspectPrivate === true),
    modelDigest,
    calibrate: calibrateNoiseMultiplier,
    compose: composedEpsilon,
    cached: null,
    accounts: null,
  };
}

/**
 * As {@link offlineHost}, and looks results up in the store and accounts in the ledger. Use it inside
 * {@link withCompileHost}, which closes the ledger.
 */
export async function withCompileHost<T>(work: (host: CompileHost) => Promise<T>): Promise<T> {
  const ledger = await openLedger(ledgerUrl());
  try {
    return await work({
      ...offlineHost(),
      cached: (queries) => lookUp(queries, ledger),
      accounts: (requests, { experiment }) => figures(requests, experiment, ledger),
    });
  } finally {
    await ledger.close();
  }
}

async function lookUp(queries: readonly CacheQuery[], ledger: Ledger): Promise<Set<string>> {
  const store = openStore();
  const found = new Set<string>();
  for (const { key, paidKeys } of queries) {
    const artifact = await store.lookup(key);
    if (artifact && (await paymentOf(ledger, artifact.manifest.paidBy, paidKeys))) found.add(key);
  }
  return found;
}

async function figures(
  requests: readonly AccountRequest[],
  experiment: string,
  ledger: Ledger,
): Promise<AccountFigures[]> {
  const verdicts = await ledger.quote({
    // No run has this id: the question is what a new one would be told.
    workflowId: `plan/${experiment}`,
    experiment,
    planDigest: '',
    accounts: requests.map(({ dataset: { name, digest, privacy, sensitivity } }) => ({
      dataset: name,
      digest,
      delta: privacy!.delta,
      budget: privacy!.budget,
      benchmark: sensitivity === 'benchmark',
    })),
    entries: requests.flatMap(({ pending }) =>
      pending.map(({ id, key, privacy }) => ({
        dataset: privacy!.dataset,
        nodeId: id,
        nodeKey: key,
        keyEpoch: 0,
        mechanism: privacy!.mechanism,
        mechanismDigest: privacy!.digest,
      })),
    ),
  });
  const byDataset = new Map(verdicts.map((verdict) => [verdict.dataset, verdict]));
  return Promise.all(
    requests.map(async ({ dataset, pending }) => {
      const { before, after, budget, rule, admitted, decisive, account } = byDataset.get(dataset.name)!;
      const unboundedBefore = (await ledger.accountSummary(account))?.unbounded ?? 0;
      // What asks for nothing new is never refused, even where a budget was lowered below what is spent.
      const fits = admitted || pending.length === 0;
      return { before, after, budget, rule, admitted: fits, decisive, unboundedBefore };
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

async function findings(source: DatasetSource, inspectPrivate: boolean): Promise<DatasetFindings> {
  const faults = await inspectDataset(source, { inspectPrivate });
  if (faults.length > 0) return { faults, digest: null, trainRecords: null };
  const secret = source.sensitivity === 'private' ? ledgerSecret(ledgerUrl()) : null;
  const { digest, records } = await readDigested(source, secret);
  return { faults, digest, trainRecords: records.train?.length ?? null };
}

/** Files of a model folder that decide what it computes; notes beside them don't. */
const isModelFile = (name: string): boolean => name.endsWith('.json') || name.endsWith('.safetensors');

async function modelDigest(path: string): Promise<string> {
  const names = await readdir(path).catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_MISSING', `Model folder ${path} does not exist or cannot be read`, {
      hint: 'Paths in a spec are relative to the spec file.',
      cause,
    });
  });
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (names.includes(needed)) continue;
    throw new EpsilonflowError('MODEL_MISSING', `Model folder ${path} has no ${needed}`, {
      hint: 'A model is a folder in Hugging Face layout: config.json, model.safetensors, tokenizer.json.',
    });
  }
  const files: Record<string, string> = {};
  for (const name of names.filter(isModelFile).sort()) {
    if (!(await stat(join(path, name))).isFile()) continue;
    files[name] = createHash('sha256')
      .update(await readFile(join(path, name)))
      .digest('hex');
  }
  return createHash('sha256').update(JSON.stringify(files)).digest('hex');
}
