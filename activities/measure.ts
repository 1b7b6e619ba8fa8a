/**
 * @file Step kind `measure`: how near a synthetic set is to real records. Each figure stands beside the same figure of
 * other test rows, the best that can be had, and of training rows; all sets have the same number of rows, since most
 * measures depend on it.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { readSynthetic, readSyntheticLabels, type TextRecord } from '../datasets/index.ts';
import { checkModelUnchanged } from '../learning/formats/model-digest.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { MeasuredRows, Measurement } from '../schemas/measurement.ts';
import { seededStream } from '../privacy/noise.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';
import { measureSets, type MeasuredSets } from './measure-sets.ts';
import { measureVectors, type NamedModel } from './measure-vectors.ts';

type Input = JobInput<'measure'>;

function datasetOf({ node, datasets }: Input, role: 'synthetic' | 'real'): PlanDataset | null {
  const source = node.inputs[role];
  return (source && 'dataset' in source ? datasets[source.dataset] : undefined) ?? null;
}

/** Exact figures of private records are made under the waiver alone, whatever called this step. */
function checkWaiver({ node }: Input, read: readonly (PlanDataset | null)[]): void {
  const secret = read.find((dataset) => dataset?.sensitivity === 'private');
  if (!secret || node.waivers.includes('measures')) return;
  throw new EpsilonflowError('MECHANISM_MISMATCH', `${node.id} has no waiver to measure against private records.`);
}

/** The model in a role; null when the step has none. */
async function modelOf({ node, models, artifacts }: Input, role: 'model' | 'encoder'): Promise<NamedModel | null> {
  const input = node.inputs[role];
  if (input === undefined) return null;
  const model = 'model' in input ? models[input.model] : undefined;
  if (model) {
    await checkModelUnchanged(model);
    return model;
  }
  const made = artifacts[role]?.[0];
  if (made) return { name: made.nodeId, path: made.directory };
  throw new EpsilonflowError('STEP_FAILED', `${node.id} has no ${role}.`);
}

interface Records {
  records: readonly TextRecord[];
  /** Names of the classes; null without. */
  classes: readonly string[] | null;
}

async function syntheticRecords(input: Input, dataset: PlanDataset | null): Promise<Records> {
  if (dataset !== null) {
    const { train = [] } = await readInput(input, dataset);
    return { records: train, classes: dataset.label?.values ?? null };
  }
  const directory = input.artifacts['synthetic']?.[0]?.directory;
  if (directory === undefined) throw new EpsilonflowError('STEP_FAILED', `${input.node.id} has no set to measure.`);
  const names = await readSyntheticLabels(directory);
  return { records: await readSynthetic(directory), classes: names.length > 0 ? names : null };
}

/** Labels as indices into other classes, by name; null when the classes are not the same ones. */
function relabelled({ records, classes }: Records, wanted: readonly string[] | null): TextRecord[] | null {
  if (classes === null || wanted === null || classes.length !== wanted.length) return null;
  const places = classes.map((name) => wanted.indexOf(name));
  if (places.includes(-1)) return null;
  return records.map(({ text, label }) => ({ text, label: places[label]! }));
}

/** So many records, drawn without repetition. */
function drawn(records: readonly TextRecord[], count: number, seed: number, role: string): TextRecord[] {
  const stream = seededStream(seed, `measured rows: ${role}`);
  const left = [...records];
  for (let place = 0; place < count; place++) {
    const other = place + Math.floor(stream.uniform() * (left.length - place));
    [left[place], left[other]] = [left[other]!, left[place]!];
  }
  return left.slice(0, count);
}

async function readSets(input: Input): Promise<MeasuredSets> {
  const { node } = input;
  const { rows, seed } = node.params;
  const real = datasetOf(input, 'real');
  const own = datasetOf(input, 'synthetic');
  if (real === null) throw new EpsilonflowError('STEP_FAILED', `${node.id} has no real records to measure against.`);
  checkWaiver(input, [real, own]);
  const { train = [], test = [] } = await readInput(input, real);
  const given = await syntheticRecords(input, own);
  const classes = real.label?.values ?? null;
  const labelled = relabelled(given, classes);
  const synthetic = labelled ?? given.records;
  const sizes = [rows, Math.floor(test.length / 2), synthetic.length, ...(train.length > 0 ? [train.length] : [])];
  const size = Math.min(...sizes);
  if (size < 2) {
    throw new EpsilonflowError('STEP_FAILED', `${node.id} has too few rows: each set needs 2, the test split 4.`);
  }
  const twice = drawn(test, 2 * size, seed, 'test');
  return {
    synthetic: drawn(synthetic, size, seed, 'synthetic'),
    reference: twice.slice(0, size),
    ceiling: twice.slice(size),
    train: train.length > 0 ? drawn(train, size, seed, 'train') : null,
    wholeTrain: train,
    classes: labelled === null ? null : classes,
  };
}

/** For tables and curves: the figure itself by the measure's name, what stands beside it by a longer one. */
function metricsOf({ measures, rows }: Measurement): Record<string, number> {
  const metrics: Record<string, number> = { rows };
  const suffix: Record<MeasuredRows, string> = { synthetic: '', ceiling: 'Ceiling', train: 'Train' };
  for (const [name, figures] of Object.entries(measures)) {
    for (const [set, figure] of Object.entries(figures)) {
      metrics[name + suffix[set as MeasuredRows]] = figure.value;
      if (set === 'synthetic') metrics[`${name}Error`] = figure.error;
    }
  }
  return metrics;
}

export const run: StepRunner<'measure'> = async (input, context: JobContext): Promise<StepOutput> => {
  context.progress({ phase: 'load', done: 0, total: 1, unit: 'datasets' });
  const sets = await readSets(input);
  await context.breathe();
  const { params } = input.node;
  const counted = await measureSets(sets, params, context);
  const models = { decoder: await modelOf(input, 'model'), encoder: await modelOf(input, 'encoder') };
  const embedded = await measureVectors(sets, models, params, context);
  const measurement: Measurement = {
    ...counted,
    vectors: embedded.vectors,
    measures: { ...counted.measures, ...embedded.measures },
    leftOut: { ...counted.leftOut, ...embedded.leftOut },
  };
  context.progress({ phase: 'write', done: 0, total: 1, unit: 'files' });
  await writeFile(join(input.outputDirectory, 'measures.json'), `${JSON.stringify(measurement, null, 2)}\n`);
  return { metrics: metricsOf(measurement) };
};
