/**
 * @file Step kind `train-classifier`: trains a text classifier on a dataset, with DP-SGD when the node has a mechanism,
 * or on synthetic records, and evaluates it on the test split of a dataset.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { readSynthetic, readSyntheticLabels, type DatasetRecords, type TextRecord } from '../datasets/index.ts';
import { predictions, type Predictions } from '../learning/classifier/predictions.ts';
import { areaUnderRoc, calibrationError, confusionMatrix, logLoss } from '../measures/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { PlanDataset } from '../schemas/plan.ts';
import { classifierArithmetic } from '../schemas/step-params.ts';
import { linearClassifier } from './classifiers/linear.ts';
import { labelsOf, type ClassifierTraining, type TrainedClassifier } from './classifiers/training.ts';
import { transformerClassifier } from './classifiers/transformer.ts';
import { wordCnnClassifier } from './classifiers/word-cnn.ts';
import { readInput, type JobContext, type JobInput, type StepOutput, type StepRunner } from './job.ts';
import { reservedMechanism } from './reserved-mechanism.ts';
import { testCounts } from './test-counts.ts';

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

function train(training: ClassifierTraining): Promise<TrainedClassifier> {
  const { params } = training;
  switch (params.family) {
    case 'word-cnn':
      return wordCnnClassifier({ ...training, params });
    case 'linear':
      return linearClassifier({ ...training, params });
    case 'transformer':
      return transformerClassifier({ ...training, params });
  }
}

/** Predictions for the test records, in order. */
function predict(
  classifier: TrainedClassifier,
  test: { texts: readonly string[]; classes: number; isApart: boolean },
  context: JobContext,
): Promise<Predictions> {
  const { texts, classes, isApart } = test;
  const total = texts.length;
  return predictions(
    (into) => classifier.evaluate(texts, into, isApart),
    { records: total, classes },
    async (done) => {
      context.progress({ phase: 'evaluate', done, total, unit: 'records' });
      await context.breathe();
    },
  );
}

/** AUROC is left out where the split lacks a class. */
function probabilityMetrics(
  labels: Int32Array,
  { probabilities }: Predictions,
  classes: number,
): Record<string, number> {
  const auroc = areaUnderRoc(probabilities, labels, classes);
  return {
    ...(auroc !== null && { auroc }),
    calibrationError: calibrationError(probabilities, labels, classes),
    logLoss: logLoss(probabilities, labels, classes),
  };
}

/** `predictions.json`, for comparisons that pair rows: by test record in order, classes as indices. */
function writePredictions(
  directory: string,
  labels: Int32Array,
  predicted: Predictions,
  classes: number,
): Promise<void> {
  const rows = Array.from(labels.keys(), (row) =>
    Array.from(predicted.probabilities.subarray(row * classes, (row + 1) * classes), (share) =>
      Number(share.toPrecision(6)),
    ),
  );
  const content = { labels: [...labels], predicted: [...predicted.predicted], probabilities: rows };
  return writeFile(join(directory, 'predictions.json'), `${JSON.stringify(content)}\n`);
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
    arithmetic: classifierArithmetic(params),
  });
  context.progress({ phase: 'index', done: 0, total: training.records.length, unit: 'records' });
  await context.breathe();

  const classifier = await train({ input, context, params, classes: classes.length, mechanism, ...training });
  const labels = labelsOf(testRecords);
  // The noise on released counts is for one record: it must change no other one's prediction.
  const isApart = node.release !== undefined;
  const texts = testRecords.map(({ text }) => text);
  const predicted = await predict(classifier, { texts, classes: classes.length, isApart }, context);
  classifier.dispose();
  const exact = confusionMatrix(labels, predicted.predicted, classes.length);
  const { metrics: counted, confusion, releaseProof } = await testCounts(input, context, testSet, exact);
  // The noise covers the table alone: no other figure of what was predicted leaves beside it, nor the predictions.
  const isExact = releaseProof === undefined;
  const metrics = { ...counted, ...(isExact && probabilityMetrics(labels, predicted, classes.length)) };
  context.progress({ phase: 'write', done: 0, total: 1, unit: 'files' });
  const file = join(input.outputDirectory, 'metrics.json');
  await writeFile(file, `${JSON.stringify({ ...metrics, classes, confusion }, null, 2)}\n`);
  if (isExact) await writePredictions(input.outputDirectory, labels, predicted, classes.length);
  const { proof } = classifier;
  return { metrics, ...(proof && { proof }), ...(releaseProof && { releaseProof }) };
};
