/**
 * @file Hockey-stick divergences in 115-digit fixed-point arithmetic: what double precision is held against. Shares no
 * formula and no code with the accountants.
 */

const BITS = 384n;
const ONE = 1n << BITS;

/** The value of a double, exactly (down to 2^-384). */
export function exact(value: number): bigint {
  let exponent = 0n;
  let mantissa = value;
  while (!Number.isInteger(mantissa)) {
    mantissa *= 2;
    exponent += 1n;
  }
  return (BigInt(mantissa) << BITS) >> exponent;
}

const times = (a: bigint, b: bigint): bigint => (a * b) >> BITS;
const over = (a: bigint, b: bigint): bigint => (a << BITS) / b;

export function toNumber(value: bigint): number {
  return Number(value >> (BITS - 200n)) / 2 ** 200;
}

/** Series of the argument over 2^16, squared 16 times. */
function exp(x: bigint): bigint {
  const reduced = x >> 16n;
  let term = ONE;
  let sum = ONE;
  for (let n = 1n; term !== 0n && term !== -1n; n += 1n) {
    term = times(term, reduced) / n;
    sum += term;
  }
  for (let i = 0; i < 16; i += 1) sum = times(sum, sum);
  return sum;
}

function squareRoot(x: bigint): bigint {
  let root = ONE;
  for (let i = 0; i < 300; i += 1) {
    const next = (root + over(x, root)) >> 1n;
    if (next === root) break;
    root = next;
  }
  return root;
}

const PI = (314159265358979323846264338327950288419716939937510582097494459230781640628620899n << BITS) / 10n ** 80n;

/** Integral of f(distance) over distances from 0 to infinity, by the double-exponential rule (Takahasi, Mori 1974). */
function halfLine(f: (distance: bigint) => bigint): bigint {
  const step = ONE >> 5n;
  let sum = 0n;
  for (let k = -150n; k <= 110n; k += 1n) {
    const grown = exp(k * step);
    const shrunk = over(ONE, grown);
    const distance = exp(times(PI >> 1n, (grown - shrunk) >> 1n));
    const weight = times(distance, times(PI >> 1n, (grown + shrunk) >> 1n));
    sum += times(weight, f(distance));
  }
  return times(sum, step);
}

/** Density of N(mean, variance) at x, up to 1 / sqrt(2 pi variance). */
const bell = (x: bigint, mean: bigint, variance: bigint): bigint => {
  const square = times(x - mean, x - mean);
  const exponent = over(square, 2n * variance);
  return exponent > 260n * ONE ? 0n : exp(-exponent);
};

/**
 * delta at `epsilon` of `count` Gaussian mechanisms (q = 1), or of one Poisson-sampled one: the larger of the integrals
 * of (P - exp(epsilon) Q)+ and (Q - exp(epsilon) P)+, P the law with the record, Q without. They are taken from the
 * point where the integrand changes sign; to find that in double precision is enough, since it counts squared.
 */
export function gaussianDelta(q: number, sigma: number, count: number, epsilon: number): bigint {
  if (q !== 1 && count !== 1) throw new Error('no closed form');
  const variance = over(times(exact(sigma), exact(sigma)), exact(count));
  const about = (sigma * sigma) / count;
  const ratio = exp(exact(epsilon));
  const probability = exact(q);
  const base = (x: bigint): bigint => bell(x, 0n, variance);
  const mixture = (x: bigint): bigint => times(ONE - probability, base(x)) + times(probability, bell(x, ONE, variance));
  const normaliser = squareRoot(times(2n * PI, variance));

  const removeFrom = exact(0.5 + about * Math.log((Math.exp(epsilon) - 1 + q) / q));
  const remove = halfLine((distance) => {
    const x = removeFrom + distance;
    return mixture(x) - times(ratio, base(x));
  });
  const inner = (Math.exp(-epsilon) - 1 + q) / q;
  if (inner <= 0) return over(remove, normaliser);
  const addFrom = exact(0.5 + about * Math.log(inner));
  const add = halfLine((distance) => {
    const x = addFrom - distance;
    return base(x) - times(ratio, mixture(x));
  });
  return over(remove > add ? remove : add, normaliser);
}

/** delta at `epsilon` of one Poisson-sampled Laplace mechanism: the densities are exponentials between 0 and 1. */
export function laplaceDelta(q: number, scale: number, epsilon: number): bigint {
  const probability = exact(q);
  const ratio = exp(exact(epsilon));
  // Masses of Laplace(0) and Laplace(1) above x in [0, 1]; below 1 - x they are the same the other way round.
  const tail = (x: bigint): bigint => exp(over(-x, exact(scale))) >> 1n;
  const above = (x: bigint): bigint => times(ONE - probability, tail(x)) + times(probability, ONE - tail(ONE - x));
  const inside = (x: number): bigint => exact(Math.min(1, Math.max(0, x)));

  const removeFrom = inside(0.5 + (scale / 2) * Math.log((Math.exp(epsilon) - 1 + q) / q));
  const remove = above(removeFrom) - times(ratio, tail(removeFrom));
  const inner = (Math.exp(-epsilon) - 1 + q) / q;
  if (inner <= 0) return remove;
  const addFrom = inside(0.5 + (scale / 2) * Math.log(inner));
  const add = ONE - tail(addFrom) - times(ratio, ONE - above(addFrom));
  return remove > add ? remove : add;
}
