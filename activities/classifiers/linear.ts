/** @file Classifiers of the family `linear`. */

import { hashTexts, type HashedTexts } from '../../learning/linear/features.ts';
import { LinearModel, linearParameters, linearViews } from '../../learning/linear/model.ts';
import { trainLinear, trainLinearPrivately } from '../../learning/linear/training.ts';
import type { LinearParams } from '../../schemas/step-params.ts';
import {
  epochReports,
  labelsOf,
  noised,
  privateStart,
  type ClassifierTraining,
  type TrainedClassifier,
} from './training.ts';

export async function linearClassifier(training: ClassifierTraining<LinearParams>): Promise<TrainedClassifier> {
  const { params, records, context, classes } = training;
  const withDp = noised(training);
  const { buckets } = withDp ? params.dp : params;
  const shape = { buckets, classes };
  const encode = (texts: readonly string[]): HashedTexts =>
    hashTexts(texts, { buckets, words: params.words, ngrams: params.ngrams });
  const data = { texts: encode(records.map(({ text }) => text)), labels: labelsOf(records) };
  await context.breathe();
  let proof = null;
  let model: LinearModel;
  if (withDp) {
    model = new LinearModel(shape);
    const { state, settings, hooks } = await privateStart(training, withDp, linearParameters(shape), (stored) => {
      if (stored) model.restore(stored);
      return linearViews(shape, model.flat);
    });
    proof = await trainLinearPrivately(model, data, settings, state, hooks);
  } else model = await trainLinear(shape, data, params, epochReports(training));
  // A text goes through by itself, so that its prediction is always its own.
  const evaluate: TrainedClassifier['evaluate'] = (texts, into) =>
    model.evaluate(encode(texts), [...texts.keys()], into);
  return { proof, evaluate, dispose: () => undefined };
}
