/** @file Content digests of datasets: what a dataset is, whatever file it lies in. */

import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import { loadSplit } from './records.ts';
import { type DatasetSource, type Split, splits, type TextRecord } from './source.ts';

/** Raise when the canonical form below changes. */
const canonicalForm = 'epsilonflow-dataset-1';

export type DatasetRecords = Partial<Record<Split, TextRecord[]>>;

/**
 * Reads all splits of a dataset, and digests what was read: the canonical records `[text, label index]` of the splits
 * in order, and the label names, as hex.
 *
 * The same records in another file format, compression or under other column names have the same digest. Order counts:
 * training with a seed depends on it, so content keys must. For a private dataset it is an HMAC-SHA256 under `secret`
 * (kept beside the ledger), since a plain digest of few or guessable records could be searched; else sha256.
 *
 * @throws EpsilonflowError what reading throws; ARGUMENT_INVALID when a private dataset comes without a secret.
 */
export async function readDigested(
  source: DatasetSource,
  secret: Buffer | null,
): Promise<{ digest: string; records: DatasetRecords }> {
  const hash = digester(source, secret);
  hash.update(`${canonicalForm}\n${JSON.stringify(source.label?.values ?? null)}\n`);
  const all: DatasetRecords = {};
  for (const split of splits) {
    if (source.files[split] === undefined) continue;
    const { records, faults } = await loadSplit(source, split);
    if (faults.length > 0) throw faults[0]!;
    all[split] = records;
    hash.update(`${split} ${records.length}\n`);
    let chunk = '';
    for (const record of records) {
      chunk += `${JSON.stringify([record.text, record.label])}\n`;
      if (chunk.length > 1 << 16) {
        hash.update(chunk);
        chunk = '';
      }
    }
    hash.update(chunk);
  }
  return { digest: hash.digest('hex'), records: all };
}

function digester(source: DatasetSource, secret: Buffer | null): Hash | Hmac {
  if (source.sensitivity !== 'private') return createHash('sha256');
  if (secret === null || secret.length < 16) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `The digest of private dataset ${source.name} needs a secret key`);
  }
  return createHmac('sha256', secret);
}

/**
 * Reads a planned dataset. It must hold what it held when the plan was made: no result is stored under the key of other
 * data, and nothing that an account does not know is trained on.
 *
 * @param secret keys the digests of private datasets; null where there are none.
 * @throws EpsilonflowError what reading throws; DATA_CHANGED.
 */
export async function readPlanned(dataset: PlanDataset, secret: Buffer | null): Promise<DatasetRecords> {
  const { digest, records } = await readDigested(dataset, secret);
  if (digest === dataset.digest) return records;
  throw new EpsilonflowError('DATA_CHANGED', `Dataset ${dataset.name} has changed since the plan was made`, {
    hint: 'Run the spec again: it makes a new plan for the data as they are now.',
  });
}
