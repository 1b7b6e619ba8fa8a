/** @file Datasets and models as a spec declares them, checked and made absolute. */

import { dirname, extname, resolve } from 'node:path';

import { type DatasetSource, type Split, splits } from '../datasets/index.ts';
import { EpsilonflowError, type Position } from '../schemas/errors.ts';
import type { PlanDataset, PlanFile, PlanModel } from '../schemas/plan.ts';
import type { FaultList } from './faults.ts';
import type { CompileHost } from './host.ts';
import { child, entriesOf, itemsOf, type Source, stringOf } from './source.ts';

/** Rules of the privacy invariant that a spec may set aside. */
const waiverNames = ['test-metrics', 'measures', 'non-private-training', 'decontamination'] as const;

export type WaiverName = (typeof waiverNames)[number];

interface DatasetDraft extends DatasetSource {
  at: Position;
  source: Source;
  size: number | 'counted' | undefined;
  delta: number | undefined;
  budget: number | undefined;
  softBudget: number | undefined;
}

const formats: Record<string, PlanFile['format']> = {
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.json': 'json',
  '.csv': 'csv',
  '.tsv': 'tsv',
  '.parquet': 'parquet',
  '.txt': 'txt',
};
const compressions: Record<string, PlanFile['compression']> = { '.gz': 'gzip', '.br': 'brotli' };

export const numberOf = (source: Source | undefined): number | undefined =>
  source?.type === 'scalar' && typeof source.value === 'number' ? source.value : undefined;

/**
 * Reads all datasets, checks their files and digests them; what is wrong with one leaves it out. Of public ones also the
 * number of training records is told.
 *
 * @param specFile absolute path; files are relative to its folder.
 */
export async function readDatasets(
  source: Source | undefined,
  specFile: string,
  host: CompileHost,
  faults: FaultList,
): Promise<{ datasets: Map<string, PlanDataset>; publicRecords: Map<string, number> }> {
  const datasets = new Map<string, PlanDataset>();
  const publicRecords = new Map<string, number>();
  // One after the other: each is read whole, and memory is worth more than the little that is won in parallel.
  for (const [name, { key, value }] of entriesOf(source)) {
    const draft = draftDataset(name, key.at, value, specFile, faults);
    if (draft === undefined) continue;
    const declared = checkDeclaration(draft, faults);
    const { faults: found, digest, trainRecords } = await host.inspectDataset(draft);
    for (const fault of found) faults.push(placed(fault, draft));
    if (digest === null || !declared) continue;
    const dataset = finishDataset(draft, digest, trainRecords, faults);
    if (dataset === undefined) continue;
    datasets.set(name, dataset);
    if (draft.sensitivity === 'public' && trainRecords !== null) publicRecords.set(name, trainRecords);
  }
  return { datasets, publicRecords };
}

function draftDataset(
  name: string,
  at: Position,
  source: Source,
  specFile: string,
  faults: FaultList,
): DatasetDraft | undefined {
  const files: Partial<Record<Split, PlanFile>> = {};
  const format = stringOf(child(source, 'format'));
  const known = Object.values(formats);
  for (const split of splits) {
    const path = child(child(source, 'files'), split);
    const text = stringOf(path);
    if (path === undefined || text === undefined || text === '') continue;
    const compression = compressions[extname(text)] ?? 'none';
    const extension = extname(compression === 'none' ? text : text.slice(0, -extname(text).length)).toLowerCase();
    const found = known.find((candidate) => candidate === format) ?? formats[extension];
    if (found === undefined) {
      const hint = 'Set "format" to jsonl, json, csv, tsv, parquet or txt.';
      faults.add('SPEC_SCHEMA', `The extension of "${text}" tells no format`, path.at, hint);
      return undefined;
    }
    files[split] = { path: resolve(dirname(specFile), text), format: found, compression };
  }
  if (Object.keys(files).length === 0) return undefined;
  const labelSource = child(source, 'label');
  const values = itemsOf(child(labelSource, 'values')).flatMap((item) =>
    item.type === 'scalar' && item.value !== null ? [String(item.value)] : [],
  );
  if (labelSource !== undefined && values.length < 2) return undefined;
  const sensitivity = stringOf(child(source, 'sensitivity')) ?? 'private';
  if (sensitivity !== 'private' && sensitivity !== 'benchmark' && sensitivity !== 'public') return undefined;
  const privacy = child(source, 'privacy');
  return {
    name,
    at,
    source,
    files,
    text: stringOf(child(source, 'text')) ?? 'text',
    label: labelSource === undefined ? null : { column: stringOf(child(labelSource, 'column')) ?? 'label', values },
    sensitivity,
    size: stringOf(child(privacy, 'size')) === 'counted' ? 'counted' : numberOf(child(privacy, 'size')),
    delta: numberOf(child(privacy, 'delta')),
    budget: numberOf(child(child(privacy, 'budget'), 'epsilon')),
    softBudget: numberOf(child(privacy, 'soft-budget')),
  };
}

/** What a dataset must say about privacy. */
function checkDeclaration(draft: DatasetDraft, faults: FaultList): boolean {
  const { name, at, sensitivity } = draft;
  if (sensitivity !== 'private') return true;
  const privacy = child(draft.source, 'privacy');
  // A value of the wrong type was reported by the schema.
  if (child(privacy, 'size') === undefined) {
    faults.add(
      'SPEC_PRIVACY',
      `Private dataset "${name}" declares no size`,
      at,
      'Set privacy.size to a public number of training records, or to "counted" if their number is public.',
    );
  }
  if (child(privacy, 'budget') === undefined) {
    faults.add(
      'SPEC_PRIVACY',
      `Private dataset "${name}" has no budget`,
      at,
      'Set privacy.budget.epsilon to the most that all experiments together may spend on it.',
    );
  }
  return draft.size !== undefined && draft.budget !== undefined;
}

/** A fault of the data layer, with the place in the spec that it concerns unless it has one in the data. */
function placed(fault: EpsilonflowError, { source, files, label, at }: DatasetDraft): EpsilonflowError {
  if (fault.position !== undefined) return fault;
  const split = splits.find((candidate) => files[candidate] && fault.message.includes(files[candidate].path));
  let place: Source | undefined;
  if (fault.code === 'DATA_COLUMN_MISSING') {
    const isLabel = label !== null && fault.message.endsWith(`"${label.column}"`);
    place = isLabel ? (child(child(source, 'label'), 'column') ?? child(source, 'label')) : child(source, 'text');
  }
  place ??= split === undefined ? undefined : child(child(source, 'files'), split);
  return new EpsilonflowError(fault.code, fault.message, {
    position: place?.at ?? at,
    cause: fault.cause,
    ...(fault.hint === undefined ? {} : { hint: fault.hint }),
  });
}

function finishDataset(
  draft: DatasetDraft,
  digest: string,
  trainRecords: number | null,
  faults: FaultList,
): PlanDataset | undefined {
  const { name, files, text, label, sensitivity } = draft;
  const dataset: PlanDataset = { name, files, text, label, sensitivity, privacy: null, digest };
  if (sensitivity === 'public') return dataset;
  // What is neither a number nor "counted" was reported by the schema.
  if (draft.size === undefined && child(child(draft.source, 'privacy'), 'size') !== undefined) return undefined;
  const counted = draft.size === undefined || draft.size === 'counted';
  const size = draft.size === undefined || draft.size === 'counted' ? trainRecords : draft.size;
  // Without a train split nothing is trained on it, and nothing is charged.
  if (size === null) return dataset;
  // What is declared too small, or as a delta that is none, was reported by the schema.
  if (draft.delta !== undefined && draft.delta <= 0) return undefined;
  if (size < 2) {
    if (!counted) return undefined;
    faults.add('SPEC_PRIVACY', `Dataset "${name}" is too small for a privacy guarantee: ${size} records`, draft.at);
    return undefined;
  }
  if (draft.delta !== undefined && draft.delta > 1 / size) {
    faults.add(
      'SPEC_PRIVACY',
      `Delta ${draft.delta} of dataset "${name}" is above 1 / size: publishing one record whole would keep it`,
      draft.at,
      `Give less than ${(1 / size).toPrecision(2)}, or leave it out.`,
    );
    return undefined;
  }
  dataset.privacy = {
    unit: 'record',
    size,
    counted,
    delta: draft.delta ?? 1 / (size * Math.max(1, Math.log(size))),
    budget: draft.budget === undefined ? null : { epsilon: draft.budget },
    ...(draft.softBudget === undefined ? {} : { softBudget: draft.softBudget }),
  };
  return dataset;
}

/** Finds all models and digests their files; a fault leaves the model out. */
export async function readModels(
  source: Source | undefined,
  specFile: string,
  host: CompileHost,
  faults: FaultList,
): Promise<Map<string, PlanModel>> {
  const models = new Map<string, PlanModel>();
  for (const [name, { value }] of entriesOf(source)) {
    const hub = child(value, 'hub');
    const written = hub ?? child(value, 'path') ?? child(value, 'gguf');
    const text = stringOf(written);
    if (written === undefined || text === undefined || text === '') continue;
    try {
      const path = hub ? await host.hubModel({ name, reference: text }) : resolve(dirname(specFile), text);
      models.set(name, { name, path, digest: await host.modelDigest(path) });
    } catch (error) {
      // That a service is down is no fault of the spec.
      if (!(error instanceof EpsilonflowError) || error.code === 'SERVICE_UNREACHABLE') throw error;
      faults.add(error.code, error.message, written.at, error.hint);
    }
  }
  return models;
}

/** Names of the waivers that the spec states with a reason. */
export function readWaivers(source: Source | undefined): { name: WaiverName; reason: string }[] {
  return itemsOf(source).flatMap((item) => {
    const written = stringOf(child(item, 'name'));
    const name = waiverNames.find((known) => known === written);
    const reason = stringOf(child(item, 'reason'));
    return name !== undefined && reason !== undefined && reason.trim() !== '' ? [{ name, reason }] : [];
  });
}
