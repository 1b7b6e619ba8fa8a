/** @file Public door of the measures. All are pure functions of numbers. */

export { accuracy, confusionMatrix, macroF1, majorityAccuracy, withoutNegatives } from './classification.ts';
export {
  bootstrapInterval,
  type Interval,
  mean,
  noisyProportionInterval,
  standardDeviation,
  studentCdf,
  studentQuantile,
  tInterval,
  wilsonInterval,
} from './intervals.ts';
