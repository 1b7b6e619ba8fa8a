/** @file Public door of the measures. All are pure functions of numbers and words. */

export { accuracy, confusionMatrix, macroF1, majorityAccuracy, withoutNegatives } from './classification.ts';
export { frechetDistance } from './frechet.ts';
export { inManifold, radii } from './manifolds.ts';
export { mauve, quantise, sharesOf } from './mauve.ts';
export { NearTextIndex } from './near-texts.ts';
export { trainNaiveBayes } from './naive-bayes.ts';
export { areaUnderRoc, calibrationError, logLoss, mostProbable } from './probabilities.ts';
export { type Figure, meanFigure, resampledFigure, resampledRows } from './resampling.ts';
export { selfBleu } from './self-bleu.ts';
export { type CountedSet, SetCounter } from './text-sets.ts';
export {
  bootstrapInterval,
  clopperPearson,
  type Interval,
  mean,
  noisyProportionInterval,
  standardDeviation,
  studentCdf,
  studentQuantile,
  tInterval,
  wilsonInterval,
} from './intervals.ts';
export { momentsOf, type Vectors } from './vectors.ts';
