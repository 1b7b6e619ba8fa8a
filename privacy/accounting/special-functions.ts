/** @file Normal tail functions in double precision, with relative (not only absolute) accuracy in the tails. */

const SQRT_HALF_PI = Math.sqrt(Math.PI / 2);
const LOG_SQRT_TWO_PI = 0.5 * Math.log(2 * Math.PI);

/** Below this the power series of the normal integral keeps full precision; above, the continued fraction is short. */
const SERIES_LIMIT = 2.2;

/**
 * Mills ratio R(x) = P(Z > x) / phi(x) of a standard normal Z, relative error below 4e-15 for x >= -2 and below
 * 1e-13 otherwise (Abramowitz and Stegun 26.2.11 and 26.2.14). Infinite below about -37.
 */
export function millsRatio(x: number): number {
  if (x < 0) return 2 * SQRT_HALF_PI * Math.exp((x * x) / 2) - millsRatio(-x);
  if (x < SERIES_LIMIT) {
    // phi(x) * sum x^(2n+1) / (2n+1)!! is the integral from 0 to x: all terms are positive.
    let term = x;
    let sum = x;
    for (let n = 3; term > sum * 1e-17; n += 2) {
      term *= (x * x) / n;
      sum += term;
    }
    return SQRT_HALF_PI * Math.exp((x * x) / 2) - sum;
  }
  const depth = Math.ceil(20 + 600 / (x * x));
  let tail = x;
  for (let n = depth; n >= 1; n -= 1) tail = x + n / tail;
  return 1 / tail;
}

/** log P(Z > x) for a standard normal Z. */
export function logNormalTail(x: number): number {
  if (x < -5) return Math.log1p(-Math.exp(logNormalTail(-x)));
  return Math.log(millsRatio(x)) - (x * x) / 2 - LOG_SQRT_TWO_PI;
}

/** The x with P(Z > x) = exp(logTail), rounded so that P(Z > x) <= exp(logTail); `logTail` in (-1e6, -1]. */
export function normalTailQuantile(logTail: number): number {
  let low = -1;
  let high = Math.sqrt(-2 * logTail) + 1;
  for (let i = 0; i < 60; i += 1) {
    const middle = (low + high) / 2;
    if (logNormalTail(middle) > logTail) low = middle;
    else high = middle;
  }
  return high;
}

/** log(exp(a) + exp(b)) without overflow. */
export function logAdd(a: number, b: number): number {
  const high = Math.max(a, b);
  if (high === -Infinity) return -Infinity;
  return high + Math.log1p(Math.exp(-Math.abs(a - b)));
}

/** log of the sum of exp(logs[0..length-1]). */
export function logSum(logs: Float64Array, length = logs.length): number {
  let high = -Infinity;
  for (let i = 0; i < length; i += 1) if (logs[i]! > high) high = logs[i]!;
  if (high === -Infinity || high === Infinity) return high;
  let sum = 0;
  for (let i = 0; i < length; i += 1) sum += Math.exp(logs[i]! - high);
  return high + Math.log(sum);
}
