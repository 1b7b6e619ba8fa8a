/** @file How well predicted probabilities match the true classes. Probabilities are [records, classes], row by row. */

/** Bins of the calibration error. */
const calibrationBins = 15;

/** Below any probability that counts, so that a single record can't make a mean infinite: as scikit-learn has it. */
const leastProbability = 2 ** -52;

/**
 * Area under the ROC curve of scores: the share of pairs of a positive and a negative record in which the positive one
 * scores higher, ties by half (Hanley and McNeil 1982). Null where either side has no record.
 */
function areaUnderCurve(scores: Float64Array, isPositive: (record: number) => boolean): number | null {
  const order = Array.from(scores.keys()).sort((a, b) => scores[a]! - scores[b]!);
  let positives = 0;
  let ranks = 0;
  for (let from = 0; from < order.length;) {
    let to = from + 1;
    while (to < order.length && scores[order[to]!] === scores[order[from]!]) to++;
    // Equal scores share the mean of their ranks.
    const rank = (from + 1 + to) / 2;
    for (; from < to; from++) {
      if (!isPositive(order[from]!)) continue;
      positives += 1;
      ranks += rank;
    }
  }
  const negatives = order.length - positives;
  if (positives === 0 || negatives === 0) return null;
  return (ranks - (positives * (positives + 1)) / 2) / (positives * negatives);
}

/**
 * AUROC: of two classes, of the second one's probability; of more, the mean over classes of each against all others.
 * Null where a class has no record, or all of them.
 */
export function areaUnderRoc(probabilities: Float64Array, labels: ArrayLike<number>, classes: number): number | null {
  const areaOf = (label: number): number | null => {
    const scores = Float64Array.from(
      { length: labels.length },
      (_, record) => probabilities[record * classes + label]!,
    );
    return areaUnderCurve(scores, (record) => labels[record] === label);
  };
  if (classes === 2) return areaOf(1);
  let sum = 0;
  for (let label = 0; label < classes; label++) {
    const area = areaOf(label);
    if (area === null) return null;
    sum += area;
  }
  return sum / classes;
}

/**
 * Expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3): over 15 bins of equal width of the most
 * probable class's probability, the mean distance of its mean from the share of records that it is right for, bins
 * weighted by their records.
 */
export function calibrationError(probabilities: Float64Array, labels: ArrayLike<number>, classes: number): number {
  const gaps = new Float64Array(calibrationBins);
  for (let record = 0; record < labels.length; record++) {
    const row = probabilities.subarray(record * classes, (record + 1) * classes);
    const best = mostProbable(row);
    const confidence = row[best]!;
    const bin = Math.min(calibrationBins - 1, Math.max(0, Math.ceil(confidence * calibrationBins) - 1));
    gaps[bin]! += confidence - (best === labels[record] ? 1 : 0);
  }
  return labels.length === 0 ? 0 : gaps.reduce((sum, gap) => sum + Math.abs(gap), 0) / labels.length;
}

/** Mean negative log probability of the true classes, nats. */
export function logLoss(probabilities: Float64Array, labels: ArrayLike<number>, classes: number): number {
  let sum = 0;
  for (let record = 0; record < labels.length; record++) {
    sum -= Math.log(Math.max(probabilities[record * classes + labels[record]!]!, leastProbability));
  }
  return labels.length === 0 ? 0 : sum / labels.length;
}

/** Place of the largest number; the first of equals. */
export function mostProbable(row: ArrayLike<number>): number {
  let best = 0;
  for (let place = 1; place < row.length; place++) if (row[place]! > row[best]!) best = place;
  return best;
}
