/** @file How well scores tell records that were trained on from others of their kind. */

import { clopperPearson, type Interval } from '../intervals.ts';

/** P(|Z| <= z) = 0.95 of a standard normal Z. */
const z95 = 1.959963984540054;

export interface RateAtFalseAlarms extends Interval {
  /** Largest share of the others that may be taken for members. */
  falseAlarms: number;
  /** Share of the members that are found at it. */
  rate: number;
}

export interface MembershipFigures {
  /** Area under the ROC curve, with its interval; 0.5 where scores tell nothing. */
  area: Interval & { value: number };
  rates: RateAtFalseAlarms[];
}

/** @param members scores of records that were trained on, larger for what looks trained on; @param others of the others */
export function membershipFigures(
  members: Float64Array,
  others: Float64Array,
  falseAlarms: readonly number[],
): MembershipFigures {
  return { area: areaUnderCurve(members, others), rates: falseAlarms.map((most) => rateAt(members, others, most)) };
}

/** Share of `scores` (ascending) below a value, and half of those equal to it. */
function placeAmong(scores: Float64Array, value: number): number {
  const bound = (isBefore: (score: number) => boolean): number => {
    let [low, high] = [0, scores.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(scores[middle]!)) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return (bound((score) => score < value) + bound((score) => score <= value)) / 2 / scores.length;
}

function variance(values: Float64Array): number {
  const mean = values.reduce((sum, each) => sum + each, 0) / values.length;
  return values.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (values.length - 1);
}

/** Mann and Whitney's statistic over its pairs, with the 95 % interval of DeLong, DeLong, Clarke-Pearson 1988. */
function areaUnderCurve(members: Float64Array, others: Float64Array): MembershipFigures['area'] {
  const [low, high] = [others.toSorted(), members.toSorted()];
  const ofMembers = members.map((score) => placeAmong(low, score));
  const ofOthers = others.map((score) => 1 - placeAmong(high, score));
  const value = ofMembers.reduce((sum, each) => sum + each, 0) / members.length;
  const error = Math.sqrt(variance(ofMembers) / members.length + variance(ofOthers) / others.length);
  const reach = z95 * error;
  return { value, low: Math.max(0, value - reach), high: Math.min(1, value + reach) };
}

/**
 * Share of the members above the lowest threshold that so few others exceed, with the 95 % interval of Clopper and Pearson
 * 1934 for members drawn anew; the others, and so the threshold, are held fixed.
 */
function rateAt(members: Float64Array, others: Float64Array, falseAlarms: number): RateAtFalseAlarms {
  const allowed = Math.floor(falseAlarms * others.length + 1e-9);
  const threshold = others.toSorted()[others.length - 1 - allowed]!;
  const found = members.reduce((count, score) => count + Number(score > threshold), 0);
  return { falseAlarms, rate: found / members.length, ...clopperPearson(found, members.length) };
}
