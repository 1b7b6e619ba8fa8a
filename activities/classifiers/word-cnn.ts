/** @file Classifiers of the family `word-cnn`. */

import { WordCnn } from '../../learning/word-cnn/network.ts';
import { initialWeights, wordCnnSizes, type WordCnnShape } from '../../learning/word-cnn/parameters.ts';
import {
  namedWeights,
  privateVectorNorm,
  trainedParameters,
  trainPrivately,
  weightsOf,
} from '../../learning/word-cnn/private-training.ts';
import { trainWordCnn, type LabelledTexts } from '../../learning/word-cnn/training.ts';
import { encodeTexts, type EncodedTexts } from '../../learning/word-cnn/words.ts';
import { seededStream } from '../../privacy/noise.ts';
import type { MechanismProof } from '../../schemas/artifact.ts';
import type { PlanDataset, PoissonGaussianMechanism } from '../../schemas/plan.ts';
import type { WordCnnParams } from '../../schemas/step-params.ts';
import {
  epochReports,
  labelsOf,
  noised,
  privateStart,
  type ClassifierTraining,
  type TrainedClassifier,
} from './training.ts';

type Training = ClassifierTraining<WordCnnParams>;

function shapeOf({ params, classes }: Training, isNoised: boolean): WordCnnShape {
  const { buckets, embedding, filters } = isNoised ? params.dp : params;
  return { buckets, embedding, filters, widths: params.widths, classes };
}

export async function wordCnnClassifier(training: Training): Promise<TrainedClassifier> {
  const { params, records, context } = training;
  const withDp = noised(training);
  const shape = shapeOf(training, withDp !== null);
  const encode = (texts: readonly string[]): EncodedTexts =>
    encodeTexts(texts, { buckets: shape.buckets, words: params.words, shortest: wordCnnSizes(shape).widest });
  const data = { texts: encode(records.map(({ text }) => text)), labels: labelsOf(records) };
  await context.breathe();
  const { model, proof } = withDp
    ? await trainWithDp(training, withDp, shape, data)
    : { model: await trainWordCnn(shape, data, params, epochReports(training)), proof: null };
  return {
    proof,
    evaluate: (texts, into, isApart) => model.evaluate(encode(texts), [...texts.keys()], into, { isApart }),
    dispose: () => undefined,
  };
}

async function trainWithDp(
  training: Training,
  withDp: { dataset: PlanDataset; mechanism: PoissonGaussianMechanism },
  shape: WordCnnShape,
  data: LabelledTexts,
): Promise<{ model: WordCnn; proof: MechanismProof }> {
  const initial = seededStream(training.params.seed, 'word-cnn initialisation');
  const model = new WordCnn(shape, initialWeights(shape, initial, privateVectorNorm));
  const { state, settings, hooks } = await privateStart(training, withDp, trainedParameters(shape), (stored) => {
    if (stored) model.weights = weightsOf(shape, stored);
    return namedWeights(model.weights);
  });
  return { model, proof: await trainPrivately(model, data, settings, state, hooks) };
}
