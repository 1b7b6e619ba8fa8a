/** @file How well predicted classes match the true ones. */

/**
 * Confusion counts.
 *
 * @param truth class indices, [records]; @param predicted as many.
 * @returns [classes][classes]: row is the true class, column the predicted one.
 */
export function confusionMatrix(truth: ArrayLike<number>, predicted: ArrayLike<number>, classes: number): number[][] {
  if (truth.length !== predicted.length) {
    throw new RangeError(`${truth.length} true and ${predicted.length} predicted classes`);
  }
  const counts = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let record = 0; record < truth.length; record++) {
    const row = counts[truth[record]!];
    const column = predicted[record]!;
    if (row?.[column] === undefined) throw new RangeError(`class outside 0..${classes - 1} at record ${record}`);
    row[column] += 1;
  }
  return counts;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Share of records on the diagonal; 0 when there are none. */
export function accuracy(confusion: readonly (readonly number[])[]): number {
  const total = sum(confusion.map(sum));
  return total === 0 ? 0 : sum(confusion.map((row, index) => row[index]!)) / total;
}

/**
 * Mean over classes of F1 = 2 tp / (2 tp + fp + fn), each class counting alike. A class that occurs neither in truth
 * nor in predictions has F1 0 (the convention of scikit-learn's `f1_score` with `zero_division=0`).
 */
export function macroF1(confusion: readonly (readonly number[])[]): number {
  const scores = confusion.map((row, index) => {
    const hits = row[index]!;
    const predicted = sum(confusion.map((other) => other[index]!));
    const denominator = sum(row) + predicted;
    return denominator === 0 ? 0 : (2 * hits) / denominator;
  });
  return scores.length === 0 ? 0 : sum(scores) / scores.length;
}

/** Accuracy of always answering the most frequent class of these very records: the floor of a comparison. */
export function majorityAccuracy(confusion: readonly (readonly number[])[]): number {
  const rows = confusion.map(sum);
  const total = sum(rows);
  return total === 0 ? 0 : Math.max(...rows) / total;
}

/** Counts that noise took below zero as zero: shares of them are shares again. */
export const withoutNegatives = (confusion: readonly (readonly number[])[]): number[][] =>
  confusion.map((row) => row.map((count) => Math.max(0, count)));
