/** @file Gauss-Legendre nodes and weights on [-1, 1]. */

export interface Quadrature {
  nodes: Float64Array;
  weights: Float64Array;
}

/** Rule of `n` nodes, exact for polynomials of degree 2n - 1; Newton's method on the Legendre recurrence. */
export function gaussLegendre(n: number): Quadrature {
  const nodes = new Float64Array(n);
  const weights = new Float64Array(n);
  for (let i = 0; i < n; i += 1) {
    let x = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
    let slope = 1;
    for (let iteration = 0; iteration < 50; iteration += 1) {
      let previous = 1;
      let current = x;
      for (let k = 2; k <= n; k += 1) {
        const next = ((2 * k - 1) * x * current - (k - 1) * previous) / k;
        previous = current;
        current = next;
      }
      slope = (n * (x * current - previous)) / (x * x - 1);
      const step = current / slope;
      x -= step;
      if (Math.abs(step) < 1e-16) break;
    }
    nodes[n - 1 - i] = x;
    weights[n - 1 - i] = 2 / ((1 - x * x) * slope * slope);
  }
  return { nodes, weights };
}
