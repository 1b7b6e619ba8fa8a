/** @file Content digests of datasets: what a dataset is, whatever file it lies in. */

import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';

import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import { loadSplit } from './records.ts';
import { type DatasetSource, splits } from './source.ts';

/** Raise when the canonical form below changes. */
const canonicalForm = 'epsilonflow-dataset-1';

/**
 * Digest over the canonical records `[text, label index]` of all splits in order, and the label names, as hex.
 *
 * The same records in another file format, compression or under other column names have the same digest. Order counts:
 * training with a seed depends on it, so content keys must. For a private dataset it is an HMAC-SHA256 under `secret`
 * (kept beside the ledger), since a plain digest of few or guessable records could be searched; else sha256.
 *
 * @throws EpsilonflowError what reading throws; ARGUMENT_INVALID when a private dataset comes without a secret.
 */
export async function datasetDigest(source: DatasetSource, secret?: Buffer): Promise<string> {
  const hash = digester(source, secret);
  hash.update(`${canonicalForm}\n${JSON.stringify(source.label?.values ?? null)}\n`);
  for (const split of splits) {
    if (source.files[split] === undefined) continue;
    const { records, faults } = await loadSplit(source, split);
    if (faults.length > 0) throw faults[0]!;
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
  return hash.digest('hex');
}

function digester(source: DatasetSource, secret: Buffer | undefined): Hash | Hmac {
  if (source.sensitivity !== 'private') return createHash('sha256');
  if (secret === undefined || secret.length < 16) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `The digest of private dataset ${source.name} needs a secret key`);
  }
  return createHmac('sha256', secret);
}

/**
 * Checks that a planned dataset still holds what it held when the plan was made, so that no result is stored under the
 * key of other data. A private dataset without its secret at hand is not checked.
 *
 * @throws EpsilonflowError DATA_CHANGED.
 */
export async function checkUnchanged(dataset: PlanDataset, secret?: Buffer): Promise<void> {
  if (dataset.sensitivity === 'private' && secret === undefined) return;
  if ((await datasetDigest(dataset, secret)) === dataset.digest) return;
  throw new EpsilonflowError('DATA_CHANGED', `Dataset ${dataset.name} has changed since the plan was made`, {
    hint: 'Run the spec again: it makes a new plan for the data as they are now.',
  });
}
