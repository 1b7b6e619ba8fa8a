import { describe, expect, test } from 'vitest';

import { composedEpsilon, rdpCurve, rdpEpsilon, rdpEpsilonAt, standardOrders } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier } from '../../privacy/calibration.ts';
import { requires } from '../requires.ts';
import { composition, goldenRows, referenceDivergence, trainingSteps } from './golden-rows.ts';

const has = requires('golden-accounting', 'accountants against golden vectors');

describe.runIf(has)('golden vectors', () => {
  test('epsilon of DP-SGD: never below the truth, at most 0.5 % and 0.001 above it', () => {
    for (const row of goldenRows('golden-epsilon.csv')) {
      const { epsilon } = composedEpsilon([trainingSteps(row)], Number(row['delta']));
      const name = `${row['case_id']}: ${epsilon} in ${row['truth_lo']} .. ${row['truth_hi']}`;
      expect(epsilon, name).toBeGreaterThanOrEqual(Number(row['truth_lo']) - 1e-9 * Math.max(1, epsilon));
      expect(epsilon, name).toBeLessThanOrEqual(Number(row['truth_hi']) * 1.005 + 1e-3);
    }
  });

  test('epsilon of unlike mechanisms: at most 0.1 % above the finer reference grid, not below by more than its error', () => {
    for (const row of goldenRows('golden-compose.csv')) {
      const { epsilon } = composedEpsilon(composition(row['spec_json']!), Number(row['delta']));
      const reference = Number(row['eps_pld_fine'] || row['eps_pld']);
      const name = `${row['case_id']}: ${epsilon}, reference ${reference}`;
      expect(epsilon, name).toBeLessThanOrEqual(reference * 1.001);
      expect(epsilon, name).toBeGreaterThan(reference * 0.998);
    }
  });

  test('Renyi divergence: the reference at integer orders, below it at fractional ones by its own error', () => {
    let integers = 0;
    let fractions = 0;
    for (const row of goldenRows('golden-epsilon.csv')) {
      const event = trainingSteps(row);
      const delta = Number(row['delta']);
      const reference = Number(row['eps_rdp']);
      const order = Number(row['rdp_order']);
      const tolerance = 1e-6 * Math.max(1, reference);
      const [divergence] = rdpCurve([event], [order]);
      const ours = rdpEpsilonAt(order, divergence!, delta);
      if (Number.isInteger(order) || row['q'] === '1') {
        integers += 1;
        expect(Math.abs(ours - reference), row['case_id']).toBeLessThan(tolerance);
      } else {
        fractions += 1;
        expect(ours, row['case_id']).toBeLessThan(reference + tolerance);
        const { samplingProbability, noiseMultiplier, count } = event as Extract<
          typeof event,
          { samplingProbability: number; noiseMultiplier: number }
        >;
        const theirs = rdpEpsilonAt(
          order,
          count * referenceDivergence(samplingProbability, noiseMultiplier, order),
          delta,
        );
        expect(Math.abs(theirs - reference), row['case_id']).toBeLessThan(tolerance);
      }
      // With the same orders to choose from, ours is never above.
      expect(rdpEpsilon(rdpCurve([event], standardOrders), delta, standardOrders)).toBeLessThan(reference + tolerance);
      expect(composedEpsilon([event], delta, 'rdp').epsilon).toBeGreaterThanOrEqual(Number(row['truth_lo']) - 1e-9);
    }
    expect(integers).toBeGreaterThan(80);
    expect(fractions).toBeGreaterThan(60);
  });

  test('noise multipliers: within the target, and no more noise than the reference needs, but for 0.01 %', () => {
    for (const row of goldenRows('golden-sigma.csv')) {
      const targetEpsilon = Number(row['eps_target']);
      const delta = Number(row['delta']);
      const samplingProbability = Number(row['q']);
      const steps = Number(row['steps']);
      const { noiseMultiplier, epsilon } = calibrateNoiseMultiplier({
        targetEpsilon,
        delta,
        samplingProbability,
        steps,
      });
      expect(epsilon, row['case_id']).toBeLessThanOrEqual(targetEpsilon);
      expect(noiseMultiplier, row['case_id']).toBeLessThan(Number(row['sigma_pld']) * 1.0001);
      // The reference's fixed grid is loose where epsilon is small; elsewhere it is nearly the truth.
      if (targetEpsilon >= 0.5)
        expect(noiseMultiplier, row['case_id']).toBeGreaterThan(Number(row['sigma_pld']) * 0.9995);
    }
  });
});
