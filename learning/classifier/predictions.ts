/** @file What a classifier says of records. */

import { mostProbable } from '../../measures/index.ts';

export interface Predictions {
  /** [records] the most probable classes. */
  predicted: Int32Array;
  /** [records, classes] */
  probabilities: Float64Array;
}

/** Writes what is said of some records to `into`; yields how many are done. */
export type Evaluation = (into: Predictions) => Iterable<number>;

const noPredictions = (records: number, classes: number): Predictions => ({
  predicted: new Int32Array(records),
  probabilities: new Float64Array(records * classes),
});

/** Puts what is said of one record in its place. @param row [classes] probabilities */
export function setPrediction({ predicted, probabilities }: Predictions, record: number, row: Float64Array): void {
  predicted[record] = mostProbable(row);
  probabilities.set(row, record * row.length);
}

/** A whole evaluation. @param report hears how many records are done; may yield to the event loop or throw */
export async function predictions(
  evaluation: Evaluation,
  { records, classes }: { records: number; classes: number },
  report: (done: number) => Promise<void>,
): Promise<Predictions> {
  const into = noPredictions(records, classes);
  for (const done of evaluation(into)) await report(done);
  return into;
}

/** Share of records that are predicted rightly, and mean loss, nats. @param labels of the records, in their order */
export function scoreOf(
  { predicted, probabilities }: Predictions,
  labels: ArrayLike<number>,
): { accuracy: number; loss: number } {
  const classes = probabilities.length / predicted.length;
  let hits = 0;
  let loss = 0;
  for (let record = 0; record < predicted.length; record++) {
    const label = labels[record]!;
    if (predicted[record] === label) hits += 1;
    loss -= Math.log(Math.max(probabilities[record * classes + label]!, 1e-38));
  }
  return { accuracy: hits / predicted.length, loss: loss / predicted.length };
}
