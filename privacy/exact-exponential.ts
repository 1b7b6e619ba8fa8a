/**
 * @file exp(-q) of a rational q in integer arithmetic, between two bounds as close as one likes. Random decisions that
 * double precision leaves open are settled with it: no accuracy of the machine's own `exp` is assumed.
 */

/** The quotient of two positive numbers, rounded up. */
const divideUp = (dividend: bigint, divisor: bigint): bigint => (dividend + divisor - 1n) / divisor;

/**
 * Bounds of exp(-q) for q = numerator / 2^shift >= 0.
 *
 * Alternating Taylor series of exp(-z) at z = q / 2^m <= 1/2: its terms fall, so the sums that end with an odd and with
 * an even term lie on either side. Then m squarings. Every operation is rounded outwards.
 *
 * @returns [low, high] with low <= 2^bits exp(-q) <= high; they are a few units apart.
 */
export function exponentialBounds(numerator: bigint, shift: number, bits: number): [low: bigint, high: bigint] {
  const m = Math.max(0, numerator.toString(2).length - shift + 1);
  // A squaring doubles the relative error.
  const precision = BigInt(bits + 2 * m + 8);
  const one = 1n << precision;
  const unit = 1n << BigInt(shift + m);
  const [zLow, zHigh] = [(numerator << precision) / unit, divideUp(numerator << precision, unit)];

  let [termLow, termHigh] = [one, one];
  let [low, high] = [one, one];
  for (let n = 1n; ; n++) {
    termLow = (termLow * zLow) / (n << precision);
    termHigh = divideUp(termHigh * zHigh, n << precision);
    if (n % 2n === 1n) {
      low -= termHigh;
      high -= termLow;
    } else {
      high += termHigh;
      if (termHigh <= 1n) break;
      low += termLow;
    }
  }
  for (let squared = 0; squared < m; squared++) {
    low = (low * low) >> precision;
    high = divideUp(high * high, one);
  }
  const surplus = 1n << (precision - BigInt(bits));
  return [low / surplus, divideUp(high, surplus)];
}
