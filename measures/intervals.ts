/** @file Means, spreads and confidence intervals. */

export interface Interval {
  low: number;
  high: number;
}

export function mean(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the mean of no values');
  return values.reduce((total, value) => total + value, 0) / values.length;
}

/** Sample standard deviation (divisor n - 1); 0 for a single value. */
export function standardDeviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return Math.sqrt(values.reduce((total, value) => total + (value - centre) ** 2, 0) / (values.length - 1));
}

/** log Gamma(x), x > 0: Lanczos' approximation with g = 7, n = 9 (relative error below 1e-13). */
function logGamma(x: number): number {
  const coefficients = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const shifted = x - 1;
  const t = shifted + 7.5;
  const series = coefficients.reduce((total, c, index) => total + (index === 0 ? c : c / (shifted + index)), 0);
  return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(t) - t + Math.log(series);
}

/**
 * Regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz & Stegun 26.5.8) evaluated
 * with Lentz's method.
 */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  const guard = (value: number): number => (Math.abs(value) < 1e-300 ? 1e-300 : value);
  let c = 1;
  let d = 1 / guard(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= 500; m++) {
    for (const term of [
      (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
      (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
    ]) {
      d = 1 / guard(1 + term * d);
      c = guard(1 + term / c);
      fraction *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return front * fraction;
}

/** Distribution function of Student's t (Abramowitz & Stegun 26.7.1 in terms of the incomplete beta function). */
export function studentCdf(t: number, freedom: number): number {
  const tail = incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2;
  return t > 0 ? 1 - tail : tail;
}

/** Quantile of an increasing distribution function on a bracket that is widened until it holds the quantile. */
function quantile(cdf: (x: number) => number, probability: number): number {
  let low = -1;
  let high = 1;
  while (cdf(low) > probability) low *= 2;
  while (cdf(high) < probability) high *= 2;
  for (let round = 0; round < 200 && high - low > 1e-13 * Math.max(1, Math.abs(low)); round++) {
    const middle = (low + high) / 2;
    if (cdf(middle) < probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

export const studentQuantile = (probability: number, freedom: number): number =>
  quantile((t) => studentCdf(t, freedom), probability);

/**
 * Interval for the mean of normally distributed values, such as accuracies over seeds:
 * mean +- t(1 - alpha/2; n - 1) sd / sqrt(n) (Student 1908). Needs two values or more.
 */
export function tInterval(values: readonly number[], confidence = 0.95): Interval {
  if (values.length < 2) throw new RangeError('a t interval needs two values or more');
  const reach =
    (studentQuantile((1 + confidence) / 2, values.length - 1) * standardDeviation(values)) / Math.sqrt(values.length);
  const centre = mean(values);
  return { low: centre - reach, high: centre + reach };
}

/** z with P(|Z| <= z) = confidence for a standard normal Z: the limit of Student's quantile. */
const normalQuantile = (confidence: number): number => studentQuantile((1 + confidence) / 2, 1e9);

/**
 * Wilson's score interval for a proportion (Wilson 1927, eq. 1 solved for p): the uncertainty of one accuracy that
 * comes from the size of the test set. It says nothing about the spread over seeds.
 *
 * @param proportion in [0, 1]; @param trials number of test records, at least 1.
 */
export function wilsonInterval(proportion: number, trials: number, confidence = 0.95): Interval {
  if (!(trials >= 1)) throw new RangeError('a proportion of no trials');
  const z = normalQuantile(confidence);
  const z2 = z * z;
  const centre = (proportion + z2 / (2 * trials)) / (1 + z2 / trials);
  const reach =
    (z / (1 + z2 / trials)) * Math.sqrt((proportion * (1 - proportion)) / trials + z2 / (4 * trials * trials));
  return { low: Math.max(0, centre - reach), high: Math.min(1, centre + reach) };
}

/** The p at which a function that falls in p, from 1 to 0, reaches a value. */
function falling(of: (p: number) => number, value: number): number {
  let [low, high] = [0, 1];
  for (let round = 0; round < 100 && low < high; round++) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (of(middle) > value) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * Exact interval for a proportion (Clopper and Pearson 1934): all p at which neither so many hits nor so few have a
 * probability below (1 - confidence) / 2.
 */
export function clopperPearson(hits: number, trials: number, confidence = 0.95): Interval {
  if (!(trials >= 1)) throw new RangeError('a proportion of no trials');
  const tail = (1 - confidence) / 2;
  // P(at least k hits) = I_p(k, n - k + 1)
  const low = hits === 0 ? 0 : falling((p) => 1 - incompleteBeta(p, hits, trials - hits + 1), 1 - tail);
  const high = hits === trials ? 1 : falling((p) => 1 - incompleteBeta(p, hits + 1, trials - hits), tail);
  return { low, high };
}

/** Independent noise of one variance on each of `cells` counts, of which `hits` make up the numerator. */
interface CountNoise {
  variance: number;
  hits: number;
  cells: number;
}

/**
 * Interval for a proportion D / T read off noisy counts: all p with (D - p T)^2 <= z^2 Var(D - p T), Fieller 1954 with
 * Wilson's binomial variance. D - p T has mean 0 and, of `trials` records,
 * Var = trials p (1 - p) + variance (hits (1 - p)^2 + (cells - hits) p^2). With no noise this is Wilson's interval. Where
 * noise drowns the total no p can be excluded, and the interval is [0, 1].
 *
 * @param proportion D / T in [0, 1]; @param trials T, at least 1: the noisy total stands in for the true one.
 */
export function noisyProportionInterval(
  proportion: number,
  trials: number,
  { variance, hits, cells }: CountNoise,
  confidence = 0.95,
): Interval {
  if (!(trials >= 1)) throw new RangeError('a proportion of no trials');
  const z2 = normalQuantile(confidence) ** 2;
  const noise = (z2 * variance) / (trials * trials);
  // a p^2 - 2 b p + c <= 0
  const a = 1 + z2 / trials - noise * cells;
  const b = proportion + z2 / (2 * trials) - noise * hits;
  const c = proportion * proportion - noise * hits;
  if (a <= 0) return { low: 0, high: 1 };
  const root = Math.sqrt(Math.max(0, b * b - a * c));
  return { low: Math.max(0, (b - root) / a), high: Math.min(1, (b + root) / a) };
}

/**
 * Percentile bootstrap (Efron 1979) of a statistic of `values`.
 *
 * @param uniform source of numbers in [0, 1); seeded, so that a report repeats.
 */
export function bootstrapInterval(
  values: readonly number[],
  statistic: (sample: number[]) => number,
  uniform: () => number,
  options: { confidence?: number; resamples?: number } = {},
): Interval {
  if (values.length === 0) throw new RangeError('a bootstrap of no values');
  const { confidence = 0.95, resamples = 2_000 } = options;
  const statistics = new Float64Array(resamples);
  const sample = new Array<number>(values.length);
  for (let round = 0; round < resamples; round++) {
    for (let index = 0; index < sample.length; index++) {
      sample[index] = values[Math.floor(uniform() * values.length)]!;
    }
    statistics[round] = statistic(sample);
  }
  statistics.sort();
  const at = (probability: number): number => {
    const position = probability * (resamples - 1);
    const below = statistics[Math.floor(position)]!;
    return below + (position % 1) * (statistics[Math.ceil(position)]! - below);
  };
  return { low: at((1 - confidence) / 2), high: at((1 + confidence) / 2) };
}
