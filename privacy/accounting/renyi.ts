/**
 * @file Renyi differential privacy: curves over orders, composition by addition, conversion to (epsilon, delta).
 * Add-or-remove-one-record adjacency. Sound at every order by itself, so also for adaptively composed mechanisms.
 */

import { gaussLegendre } from './gauss-legendre.ts';
import { checkDelta, eventKey, mergeEvents, type MechanismEvent } from './mechanism-event.ts';
import { logSum } from './special-functions.ts';

const range = (from: number, to: number, step: number): number[] =>
  Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) => Math.round((from + i * step) * 1e6) / 1e6);

/** Orders that the common libraries use by default; the rest of `rdpOrders` makes small sampling probabilities tight. */
export const standardOrders: readonly number[] = [...range(1.1, 10.9, 0.1), ...range(11, 63, 1), 128, 256, 512, 1024];

const furtherOrders = [
  1.01, 1.02, 1.05, 72, 80, 96, 112, 160, 192, 224, 320, 384, 448, 640, 768, 1536, 2048, 3072, 4096,
];

/** Orders of all curves, ascending. */
export const rdpOrders: readonly number[] = [...standardOrders, ...furtherOrders].sort((a, b) => a - b);

/** Relative error of a curve's values: series, quadrature and round-off. Curves are raised by it. */
const CURVE_ERROR = 1e-11;

/**
 * log((1 + v)^alpha - 1 - alpha v) for v > -1 and alpha outside [0, 1], where it is non-negative (Bernoulli).
 * `logRatio` is log(1 + v), given apart because v may overflow.
 */
function logExcess(alpha: number, v: number, logRatio: number): number {
  if (v === 0) return -Infinity;
  if (Math.abs(alpha * v) < 0.03 && Math.abs(v) < 0.03) {
    let series = 1;
    for (let k = 12; k >= 3; k -= 1) series = 1 + ((alpha - k + 1) / k) * v * series;
    return Math.log((alpha * (alpha - 1)) / 2) + 2 * Math.log(Math.abs(v)) + Math.log(series);
  }
  const power = alpha * logRatio;
  if (power > 40) {
    // Where the product overflows or the exponential underflows, 1 is nothing beside it.
    const linear =
      Math.abs(v) < 1e300 && power < 700 ? (1 + alpha * v) * Math.exp(-power) : alpha * Math.exp(logRatio - power);
    return power + Math.log1p(-linear);
  }
  return Math.log(Math.expm1(power) - alpha * v);
}

/** log(1 + v) / (alpha - 1) from log v, where 1 + v is the Renyi moment. */
function fromLogExcess(logMomentExcess: number, alpha: number): number {
  const logMoment = logMomentExcess > 35 ? logMomentExcess : Math.log1p(Math.exp(logMomentExcess));
  return logMoment / (alpha - 1);
}

/**
 * Integer order: sum over k >= 2 of C(alpha, k) (1-q)^(alpha-k) q^k (exp(k(k-1)/(2 sigma^2)) - 1), Mironov, Talwar,
 * Zhang 2019, section 3.3, with the 1 of the moment taken out termwise: all terms are positive, nothing cancels.
 */
function integerOrder(q: number, sigma: number, alpha: number, scratch: Float64Array): number {
  const logOdds = Math.log(q) - Math.log1p(-q);
  const twiceVariance = 2 * sigma * sigma;
  let logBinomial = alpha * Math.log1p(-q);
  for (let k = 1; k <= alpha; k += 1) {
    logBinomial += Math.log((alpha - k + 1) / k) + logOdds;
    if (k === 1) continue;
    const exponent = (k * (k - 1)) / twiceVariance;
    scratch[k - 2] = logBinomial + (exponent > 40 ? exponent : Math.log(Math.expm1(exponent)));
  }
  return fromLogExcess(logSum(scratch, alpha - 1), alpha);
}

/**
 * Fractional orders: the moment E[(1 + q (exp((2x-1)/(2 sigma^2)) - 1))^alpha], x ~ N(0, sigma^2), minus its first two
 * Taylor terms, whose expectation is 1. The trapezoidal rule converges exponentially for such an integrand: its
 * error is exp(-2 pi d / h) with d = pi sigma^2, the distance of the branch points from the real line.
 */
function fractionalOrders(q: number, sigma: number, orders: readonly number[]): number[] {
  if (orders.length === 0) return [];
  const variance = sigma * sigma;
  // From sigma 5 on the branch points are too far away to matter beside the Gaussian itself.
  const branchStep = (2 * Math.PI ** 2 * variance) / (46 + (Math.PI ** 2 * variance) / 2);
  const h = sigma >= 5 ? sigma / 2.5 : Math.min(sigma / 2.5, branchStep);
  const from = -10 * sigma;
  const points = Math.ceil((Math.max(...orders) + 20 * sigma) / h);
  const excess = new Float64Array(points);
  const ratio = new Float64Array(points);
  const density = new Float64Array(points);
  for (let i = 0; i < points; i += 1) {
    const x = from + i * h;
    const u = (2 * x - 1) / (2 * variance);
    excess[i] = q * Math.expm1(u);
    ratio[i] = u < 600 ? Math.log1p(excess[i]!) : u + Math.log(q);
    density[i] = -(x * x) / (2 * variance);
  }
  const normaliser = Math.log(h / (sigma * Math.sqrt(2 * Math.PI)));
  const logs = new Float64Array(points);
  return orders.map((alpha) => {
    for (let i = 0; i < points; i += 1) logs[i] = density[i]! + logExcess(alpha, excess[i]!, ratio[i]!);
    return fromLogExcess(logSum(logs) + normaliser, alpha);
  });
}

function poissonGaussianCurve(q: number, sigma: number, orders: readonly number[]): Float64Array {
  const fractional = orders.filter((alpha) => !Number.isInteger(alpha));
  const values = fractionalOrders(q, sigma, fractional);
  const byOrder = new Map(fractional.map((alpha, i) => [alpha, values[i]!]));
  const scratch = new Float64Array(Math.max(...orders.filter(Number.isInteger), 2));
  return Float64Array.from(orders, (alpha) => byOrder.get(alpha) ?? integerOrder(q, sigma, alpha, scratch));
}

/** exp(x) - 1 - x without cancellation. */
function beyondLinear(x: number): number {
  if (Math.abs(x) > 0.1) return Math.expm1(x) - x;
  let series = 1;
  for (let k = 12; k >= 3; k -= 1) series = 1 + (x / k) * series;
  return ((x * x) / 2) * series;
}

/**
 * Mironov 2017, proposition 6: the moment is (alpha exp((alpha - 1)/b) + (alpha - 1) exp(-alpha/b)) / (2 alpha - 1). In
 * its excess over 1 the linear terms cancel.
 */
function laplaceOrder(scale: number, alpha: number): number {
  const up = (alpha - 1) / scale;
  if (up > 40) {
    const log = Math.log(alpha / (2 * alpha - 1)) + up;
    return (log + Math.log1p(((alpha - 1) / alpha) * Math.exp(-alpha / scale - up))) / (alpha - 1);
  }
  const excess = alpha * beyondLinear(up) + (alpha - 1) * beyondLinear(-alpha / scale);
  return Math.log1p(excess / (2 * alpha - 1)) / (alpha - 1);
}

/**
 * Randomised response, Mironov 2017, proposition 5, as the moment's excess over 1:
 * (exp(alpha e) - 1) (1 - exp(-(alpha - 1) e)) / (1 + exp(e)) with e = 1 / scale.
 */
function discreteLaplaceOrder(scale: number, alpha: number): number {
  const loss = 1 / scale;
  const power = alpha * loss;
  const growth = power > 40 ? power : Math.log(Math.expm1(power));
  const sum = loss > 40 ? loss : Math.log1p(Math.exp(loss));
  return fromLogExcess(growth + Math.log(-Math.expm1((1 - alpha) * loss)) - sum, alpha);
}

const panelRule = gaussLegendre(12);

/**
 * Poisson-subsampled Laplace. The dominating pairs are (mixture, Laplace) and (Laplace, mixture) (Zhu, Dong, Wang
 * 2022, theorem 11); the likelihood ratio is constant outside [0, 1], so two atoms and a short integral remain.
 */
function poissonLaplaceCurve(q: number, scale: number, orders: readonly number[]): Float64Array {
  const panels = Math.ceil(8 / Math.min(scale, 1)) * 4;
  const size = panels * panelRule.nodes.length + 2;
  const logWeight = new Float64Array(size);
  const excess = new Float64Array(size);
  const put = (i: number, weight: number, u: number): void => {
    logWeight[i] = weight;
    excess[i] = q * Math.expm1(u);
  };
  put(0, Math.log(0.5), -1 / scale);
  put(1, Math.log(0.5) - 1 / scale, 1 / scale);
  for (let panel = 0, i = 2; panel < panels; panel += 1) {
    for (let k = 0; k < panelRule.nodes.length; k += 1, i += 1) {
      const x = (panel + (1 + panelRule.nodes[k]!) / 2) / panels;
      put(i, Math.log(panelRule.weights[k]! / (4 * panels * scale)) - x / scale, (2 * x - 1) / scale);
    }
  }
  const logs = new Float64Array(size);
  const moment = (exponent: number): number => {
    for (let i = 0; i < size; i += 1) {
      logs[i] = logWeight[i]! + logExcess(exponent, excess[i]!, Math.log1p(excess[i]!));
    }
    return logSum(logs);
  };
  return Float64Array.from(orders, (alpha) => fromLogExcess(Math.max(moment(alpha), moment(1 - alpha)), alpha));
}

function curveOf(event: MechanismEvent, orders: readonly number[]): Float64Array {
  switch (event.mechanism) {
    case 'gaussian':
      return Float64Array.from(orders, (alpha) => alpha / (2 * event.noiseMultiplier ** 2));
    case 'poisson-gaussian':
      return poissonGaussianCurve(event.samplingProbability, event.noiseMultiplier, orders);
    case 'laplace':
      return Float64Array.from(orders, (alpha) => laplaceOrder(event.scale, alpha));
    case 'poisson-laplace':
      return poissonLaplaceCurve(event.samplingProbability, event.scale, orders);
    case 'discrete-laplace':
      return Float64Array.from(orders, (alpha) => discreteLaplaceOrder(event.scale, alpha));
  }
}

/** Curves of single applications over `rdpOrders`; a matrix of experiments asks for few distinct ones many times. */
const curveCache = new Map<string, Float64Array>();
const CURVE_CACHE_SIZE = 512;

function cachedCurve(event: MechanismEvent): Float64Array {
  const key = eventKey(event);
  let curve = curveCache.get(key);
  if (curve === undefined) {
    curve = curveOf(event, rdpOrders);
    if (curveCache.size >= CURVE_CACHE_SIZE) curveCache.delete(curveCache.keys().next().value!);
    curveCache.set(key, curve);
  }
  return curve;
}

/**
 * Renyi divergence bound of the composition at each of `orders` (default `rdpOrders`), in nats, [orders.length].
 * Throws ARGUMENT_INVALID for an event out of range.
 */
export function rdpCurve(events: readonly MechanismEvent[], orders: readonly number[] = rdpOrders): Float64Array {
  const total = new Float64Array(orders.length);
  for (const event of mergeEvents(events)) {
    const curve = orders === rdpOrders ? cachedCurve(event) : curveOf(event, orders);
    for (let i = 0; i < total.length; i += 1) total[i] = total[i]! + event.count * curve[i]! * (1 + CURVE_ERROR);
  }
  return total;
}

/**
 * Epsilon of one order: Canonne, Kamath, Steinke 2020, proposition 12 (also Balle et al. 2020, theorem 21). Zero when
 * the total variation, at most sqrt(1 - exp(-KL)) by Bretagnolle and Huber, is within delta.
 */
export function rdpEpsilonAt(order: number, divergence: number, delta: number): number {
  if (delta * delta + Math.expm1(-divergence) >= 0) return 0;
  return Math.max(0, divergence + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1));
}

/** Smallest epsilon that some order proves at `delta`; orders as in `rdpCurve`. */
export function rdpEpsilon(curve: Float64Array, delta: number, orders: readonly number[] = rdpOrders): number {
  checkDelta(delta);
  let best = Infinity;
  orders.forEach((order, i) => {
    best = Math.min(best, rdpEpsilonAt(order, curve[i]!, delta));
  });
  return best;
}
