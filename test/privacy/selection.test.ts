import { describe, expect, test } from 'vitest';

import {
  rdpCurve,
  rdpEpsilon,
  rdpEpsilonAt,
  repetitionsWithMean,
  selectionEpsilon,
  standardOrders,
  type MechanismEvent,
  type Repetitions,
} from '../../privacy/accounting/index.ts';
import { meanRepetitions, selectionCurve } from '../../privacy/accounting/selection.ts';
import { requires } from '../requires.ts';
import { composition, goldenRows, referenceDivergence } from './golden-rows.ts';

const has = requires('golden-accounting', 'private selection against golden vectors');

/** One run's curve as the reference has it, at the orders that it uses. */
function referenceCurve(events: readonly MechanismEvent[]): Float64Array {
  const ours = rdpCurve(events, standardOrders);
  for (const event of events) {
    if (event.mechanism !== 'poisson-gaussian') continue;
    const { samplingProbability, noiseMultiplier, count } = event;
    const own = rdpCurve([event], standardOrders);
    standardOrders.forEach((order, i) => {
      if (Number.isInteger(order)) return;
      ours[i] = ours[i]! - own[i]! + count * referenceDivergence(samplingProbability, noiseMultiplier, order);
    });
  }
  return ours;
}

const lawOf = (row: Record<string, string>): Repetitions =>
  row['shape'] === 'inf'
    ? { law: 'poisson', mean: Number(row['mean']) }
    : { law: 'truncated-negative-binomial', shape: Number(row['shape']), gamma: Number(row['gamma']) };

describe.runIf(has)('golden vectors of private selection', () => {
  const rows = has ? goldenRows('golden-select.csv') : [];
  const curves = new Map(
    [...new Set(rows.map((row) => row['spec_json']!))].map((spec) => [spec, referenceCurve(composition(spec))]),
  );

  test('epsilon at equal orders and equal curves: 1e-9', () => {
    for (const row of rows) {
      const delta = Number(row['delta']);
      const curve = curves.get(row['spec_json']!)!;
      expect(Math.abs(rdpEpsilon(curve, delta, standardOrders) / Number(row['eps_rdp_single']) - 1)).toBeLessThan(1e-9);
      const selected = selectionCurve(curve, lawOf(row), standardOrders);
      const reference = Number(row['eps_rdp_select']);
      const name = `${row['case_id']}: ${row['base']}, mean ${row['mean']}, shape ${row['shape']}`;
      expect(Math.abs(rdpEpsilon(selected, delta, standardOrders) / reference - 1), name).toBeLessThan(1e-9);
      const order = Number(row['order_select']);
      const atOrder = rdpEpsilonAt(order, selected[standardOrders.indexOf(order)]!, delta);
      expect(Math.abs(atOrder / reference - 1), name).toBeLessThan(1e-9);
    }
    expect(rows.length).toBeGreaterThan(100);
  });

  test('with its own curves and orders never above the reference, and above one run', () => {
    for (const row of rows) {
      const delta = Number(row['delta']);
      const events = composition(row['spec_json']!);
      const epsilon = selectionEpsilon(events, lawOf(row), delta);
      expect(epsilon, row['case_id']).toBeLessThan(Number(row['eps_rdp_select']) * (1 + 1e-9));
      expect(epsilon, row['case_id']).toBeGreaterThanOrEqual(rdpEpsilon(rdpCurve(events), delta));
    }
  });

  test('the law with a given mean is the one that the reference solves for', () => {
    for (const row of rows) {
      if (row['shape'] === 'inf') continue;
      const law = repetitionsWithMean(Number(row['shape']), Number(row['mean']));
      if (law.law === 'poisson') throw new Error('another law');
      expect(Math.abs(law.gamma / Number(row['gamma']) - 1), row['case_id']).toBeLessThan(1e-8);
    }
  });
});

describe('laws of the number of runs', () => {
  test.each([-0.5, 0, 0.5, 1, 2, 10])('mean of shape %d, from its probabilities', (shape) => {
    const law = repetitionsWithMean(shape, 7);
    if (law.law === 'poisson') throw new Error('another law');
    // P(K = k) is proportional to (1 - gamma)^k times the product over l < k of (l + eta) / (l + 1), Definition 1.
    let weight = 1;
    let total = 0;
    let first = 0;
    for (let k = 1; k < 100_000 && (k < 10 || weight > 1e-18 * total); k += 1) {
      weight = k === 1 ? 1 - law.gamma : (weight * (1 - law.gamma) * (k - 1 + shape)) / k;
      total += weight;
      first += k * weight;
    }
    expect(first / total).toBeCloseTo(7, 9);
    expect(meanRepetitions(law)).toBeCloseTo(7, 12);
  });

  test('the geometric law is the one with success probability gamma', () => {
    expect(repetitionsWithMean(1, 8)).toMatchObject({ gamma: expect.closeTo(0.125, 15) as number });
  });

  test.each<[string, () => unknown]>([
    ['shape must be above -1', () => repetitionsWithMean(-1, 5)],
    ['mean number of runs', () => repetitionsWithMean(1, 0.5)],
    ['mean number of runs', () => selectionEpsilon([], { law: 'poisson', mean: 0.5 }, 1e-5)],
    ['gamma must lie in', () => selectionEpsilon([], { law: 'truncated-negative-binomial', shape: 1, gamma: 0 }, 1e-5)],
    ['delta must lie', () => selectionEpsilon([], { law: 'poisson', mean: 5 }, 0)],
  ])('%s', (message, call) => {
    expect(call).toThrow(message);
  });

  test('the best of many costs more than one, and selecting from nothing costs nothing', () => {
    const events: MechanismEvent[] = [{ mechanism: 'gaussian', noiseMultiplier: 4, count: 1 }];
    const few = selectionEpsilon(events, repetitionsWithMean(1, 2), 1e-6);
    expect(selectionEpsilon(events, repetitionsWithMean(1, 50), 1e-6)).toBeGreaterThan(few);
    expect(selectionEpsilon([], repetitionsWithMean(1, 50), 1e-6)).toBe(0);
  });
});
