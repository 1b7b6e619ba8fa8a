/** Distribution function of N(0, 1), from the error function's series (Abramowitz and Stegun 7.1.5). */
export function normalCdf(x: number): number {
  const z = x / Math.SQRT2;
  if (Math.abs(z) > 4) return z > 0 ? 1 : 0;
  let term = z;
  let sum = z;
  for (let n = 1; n < 100; n++) {
    term *= (-z * z) / n;
    sum += term / (2 * n + 1);
  }
  return 0.5 + sum / Math.sqrt(Math.PI);
}

/** Largest distance between the distribution of a sample and the standard normal one (Kolmogorov-Smirnov). */
export function distanceFromNormal(sample: ArrayLike<number>): number {
  const sorted = Float64Array.from(sample).sort();
  const n = sorted.length;
  let distance = 0;
  for (let index = 0; index < n; index++) {
    const cdf = normalCdf(sorted[index]!);
    distance = Math.max(distance, Math.abs(cdf - index / n), Math.abs((index + 1) / n - cdf));
  }
  return distance;
}

/** Mean of the sample's powers. */
export const momentOf = (sample: ArrayLike<number>, power: number): number =>
  Float64Array.from(sample).reduce((sum, value) => sum + value ** power, 0) / sample.length;
