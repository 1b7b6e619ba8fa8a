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
