/** @file Distances between distributions that are given as counts, and how varied one is. */

const total = (counts: ArrayLike<number>): number => {
  let sum = 0;
  for (let index = 0; index < counts.length; index++) sum += counts[index]!;
  return sum;
};

function checkSizes(p: ArrayLike<number>, q: ArrayLike<number>): void {
  if (p.length !== q.length) throw new RangeError(`counts of ${p.length} and of ${q.length} values`);
}

/**
 * Jensen-Shannon divergence in bits, in [0, 1] (Lin 1991, eq. 3.1 with equal weights): the mean of the Kullback-Leibler
 * divergences of both from their mixture. Its root is a metric; this is not the root.
 *
 * @param p, q counts of the same values, of whatever sums. Of nothing and nothing it is 0, of nothing and something 1.
 */
export function jensenShannon(p: ArrayLike<number>, q: ArrayLike<number>): number {
  checkSizes(p, q);
  const [sumP, sumQ] = [total(p), total(q)];
  if (sumP === 0 || sumQ === 0) return sumP === sumQ ? 0 : 1;
  let divergence = 0;
  for (let value = 0; value < p.length; value++) {
    const [a, b] = [p[value]! / sumP, q[value]! / sumQ];
    if (a > 0) divergence += a * Math.log2((2 * a) / (a + b));
    if (b > 0) divergence += b * Math.log2((2 * b) / (a + b));
  }
  // Rounding may take equal distributions below 0.
  return Math.min(1, Math.max(0, divergence / 2));
}

/** Total variation distance in [0, 1]: the largest difference of the probabilities that both give an event. */
export function totalVariation(p: ArrayLike<number>, q: ArrayLike<number>): number {
  checkSizes(p, q);
  const [sumP, sumQ] = [total(p), total(q)];
  if (sumP === 0 || sumQ === 0) return sumP === sumQ ? 0 : 1;
  let distance = 0;
  for (let value = 0; value < p.length; value++) distance += Math.abs(p[value]! / sumP - q[value]! / sumQ);
  return distance / 2;
}

/** Different values over all (distinct-n of Li et al. 2016 where values are n-grams); 0 of none. */
export function distinctShare(counts: ArrayLike<number>): number {
  const sum = total(counts);
  let distinct = 0;
  for (let value = 0; value < counts.length; value++) if (counts[value]! > 0) distinct += 1;
  return sum === 0 ? 0 : distinct / sum;
}
