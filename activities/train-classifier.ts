/**
 * @file Step kind `train-classifier`: trains a text classifier on a dataset, with DP-SGD when the node has a mechanism,
 * or on synthetic records, and evaluates it on the test split of a dataset.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { readSynthetic, readSyntheticLabels, type DatasetRecords, type TextRecord } from '../datasets/index.ts';
import { zeroState } from '../learning/dp/optimisers.ts';
import { readCheckpoint, writeCheckpoint } from '../learning/dp/checkpoint.ts';
import { computation } from './computation.ts';
import { WordCnn } from '../learning/word-cnn/network.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../learning/word-cnn/parameters.ts';
import {
  namedWeights,
  privateMicrobatch,
  privateSchedule,
  privateVectorNorm,
  trainedParameters,
  trainPrivately,
  weightsOf,
} from '../learning/word-cnn/private-training.ts';
import { trainWordCnn, type LabelledTexts } from '../learning/word-cnn/training.ts';
import { encodeTexts } from '../learning/word-cnn/words.ts';
import { confusionMatrix } from '../measures/index.ts';
import { seededStream } from '../privacy/noise.ts';
import type { MechanismProof } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset, PoissonGaussianMechanism } from '../schemas/plan.ts';
import type { TrainClassifierParams } from '../schemas/step-params.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';
import { noiseSecret, reservedMechanism } from './reserved-mechanism.ts';
import { testCounts } from './test-counts.ts';
import { trainingHooks } from './training-hooks.ts';

type Input = JobInput<'train-classifier'>;

interface TrainingData {
  records: TextRecord[];
  /** Null when the records are synthetic. */
  dataset: PlanDataset | null;
}

function datasetOf(input: Input, role: 'train' | 'test'): PlanDataset | null {
  const source = input.node.inputs[role];
  return (source && 'dataset' in source ? input.datasets[source.dataset] : undefined) ?? null;
}

function classesOf(dataset: PlanDataset): string[] {
  if (dataset.label !== null) return dataset.label.values;
  throw new EpsilonflowError('STEP_FAILED', `Dataset ${dataset.name} has no label to classify by.`, {
    hint: 'Give the dataset a `label` with `column` and `values`.',
  });
}

/** Labels of other data as indices into the classes of the test set, by name. */
function byClass(records: readonly TextRecord[], names: readonly string[], classes: readonly string[]): TextRecord[] {
  const places = names.map((name) => classes.indexOf(name));
  const unknown = names.find((_, index) => places[index] === -1);
  if (unknown !== undefined) {
    throw new EpsilonflowError('STEP_FAILED', `The training data have a class "${unknown}" that the test data lack.`, {
      hint: 'Name the classes of both datasets alike in `label.values`.',
    });
  }
  return records.map(({ text, label }) => ({ text, label: places[label]! }));
}

/** @param test the test set with its records, which may be the same dataset. */
async function trainingData(
  input: Input,
  test: { dataset: PlanDataset; records: DatasetRecords },
  classes: readonly string[],
): Promise<TrainingData> {
  const dataset = datasetOf(input, 'train');
  if (dataset !== null) {
    const { train = [] } = dataset.name === test.dataset.name ? test.records : await readInput(input, dataset);
    return { records: byClass(train, classesOf(dataset), classes), dataset };
  }
  const directory = input.artifacts['train']?.[0]?.directory;
  if (directory === undefined) throw new EpsilonflowError('STEP_FAILED', `${input.node.id} has no data to train on.`);
  const names = await readSyntheticLabels(directory);
  return { records: byClass(await readSynthetic(directory), names, classes), dataset: null };
}

function encode(records: readonly TextRecord[], shape: WordCnnShape, params: TrainClassifierParams): LabelledTexts {
  const { widest } = wordCnnSizes(shape);
  const texts = records.map(({ text }) => text);
  return {
    texts: encodeTexts(texts, { buckets: shape.buckets, words: params.words, shortest: widest }),
    labels: Int32Array.from(records, ({ label }) => label),
  };
}

interface TrainedModel {
  model: WordCnn;
  /** What DP training did; null without DP. */
  proof: MechanismProof | null;
}

async function trainWithoutDp(
  shape: WordCnnShape,
  data: LabelledTexts,
  params: TrainClassifierParams,
  context: JobContext,
): Promise<TrainedModel> {
  const { model } = await trainWordCnn(shape, data, params, async ({ recordsDone, recordsTotal }) => {
    context.progress({ phase: 'train', done: recordsDone, total: recordsTotal, unit: 'records' });
    await context.breathe();
  });
  return { model, proof: null };
}

async function trainWithDp(
  input: Input,
  shape: WordCnnShape,
  data: LabelledTexts,
  dataset: PlanDataset,
  mechanism: PoissonGaussianMechanism,
  context: JobContext,
): Promise<TrainedModel> {
  const { node, checkpointDirectory: directory } = input;
  const { dp, seed, words, checkpoint: interval } = node.params;
  const parameters = trainedParameters(shape);
  const identity = {
    nodeKey: node.key,
    mechanismDigest: node.privacy?.digest ?? null,
    base: null,
    layout: [{ rows: privateMicrobatch, time: words }],
  };
  const resumed = await readCheckpoint(directory, { parameters, steps: mechanism.steps }, identity);
  const weights = resumed
    ? weightsOf(shape, resumed.values)
    : initialWeights(shape, seededStream(seed, 'word-cnn initialisation'), privateVectorNorm);
  const model = new WordCnn(shape, weights);
  const values = namedWeights(weights);
  const state = { ...(resumed ?? { step: 0, ...zeroState(values) }), values };
  const checkpoint = (): Promise<void> =>
    writeCheckpoint(directory, parameters, state, identity, () => context.checkFence());
  const secret = await noiseSecret(input);
  const hooks = trainingHooks(context, { steps: mechanism.steps, dataset, mechanism, checkpoint, interval });
  const settings = { schedule: privateSchedule(dp), mechanism, secret, machine: computation() };
  return { model, proof: await trainPrivately(model, data, settings, state, hooks) };
}

/**
 * Predictions for the test records, in order.
 *
 * @param isApart each must be that of its own record alone, whatever other records there are
 */
async function predict(
  model: WordCnn,
  test: LabelledTexts,
  context: JobContext,
  isApart: boolean,
): Promise<Int32Array> {
  const total = test.labels.length;
  const predicted = new Int32Array(total);
  const all = Int32Array.from({ length: total }, (_, index) => index);
  let done = 0;
  for (const part of model.evaluate(test.texts, all, null, { isApart })) {
    predicted.set(part.predicted, done);
    done = part.done;
    context.progress({ phase: 'evaluate', done, total, unit: 'records' });
    await context.breathe();
  }
  return predicted;
}

export const run: StepRunner<'train-classifier'> = async (input, context): Promise<StepOutput> => {
  const { node } = input;
  const { params } = node;
  const testSet = datasetOf(input, 'test');
  if (testSet === null) throw new EpsilonflowError('STEP_FAILED', `${node.id} has no dataset to test on.`);
  context.progress({ phase: 'load', done: 0, total: 2, unit: 'datasets' });
  const classes = classesOf(testSet);
  const records = await readInput(input, testSet);
  context.progress({ phase: 'load', done: 1, total: 2, unit: 'datasets' });
  await context.breathe();
  const training = await trainingData(input, { dataset: testSet, records }, classes);
  const testRecords = records.test ?? [];
  const mechanism = reservedMechanism(input, training.dataset, {
    epsilon: params.epsilon,
    ...params.dp,
    arithmetic: 'exact',
  });
  const size = mechanism.kind === 'unbounded' ? params : params.dp;
  const shape: WordCnnShape = {
    buckets: size.buckets,
    embedding: size.embedding,
    filters: size.filters,
    widths: params.widths,
    classes: classes.length,
  };
  context.progress({ phase: 'index', done: 0, total: training.records.length, unit: 'records' });
  await context.breathe();
  const data = encode(training.records, shape, params);
  await context.breathe();

  const { model, proof } =
    mechanism.kind === 'unbounded' || training.dataset === null
      ? await trainWithoutDp(shape, data, params, context)
      : await trainWithDp(input, shape, data, training.dataset, mechanism, context);

  const test = encode(testRecords, shape, params);
  // The noise on released counts is for one record: it must change no other one's prediction.
  const predicted = await predict(model, test, context, node.release !== undefined);
  const exact = confusionMatrix(test.labels, predicted, classes.length);
  const { metrics, confusion, releaseProof } = await testCounts(input, context, testSet, exact);
  context.progress({ phase: 'write', done: 0, total: 1, unit: 'files' });
  const file = join(input.outputDirectory, 'metrics.json');
  await writeFile(file, `${JSON.stringify({ ...metrics, classes, confusion }, null, 2)}\n`);
  return { metrics, ...(proof && { proof }), ...(releaseProof && { releaseProof }) };
};
