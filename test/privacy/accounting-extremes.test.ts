import { describe, expect, test } from 'vitest';

import { composedEpsilon, mergeEvents, rdpCurve, type MechanismEvent } from '../../privacy/accounting/index.ts';
import { pldEpsilon } from '../../privacy/accounting/loss-distribution.ts';
import { rdpOrders } from '../../privacy/accounting/renyi.ts';
import { seededRandom } from './seeded-random.ts';

const random = seededRandom(4);
const between = (low: number, high: number): number => low * (high / low) ** random();

function training(): MechanismEvent {
  return {
    mechanism: 'poisson-gaussian',
    samplingProbability: random() < 0.1 ? 1 : between(1e-6, 1),
    noiseMultiplier: between(0.3, 50),
    count: Math.round(between(1, 1e5)),
  };
}

function anything(): MechanismEvent {
  const kind = random();
  const count = Math.round(between(1, 1000));
  if (kind < 0.4) return training();
  if (kind < 0.6) return { mechanism: 'gaussian', noiseMultiplier: between(0.3, 50), count };
  if (kind < 0.8) return { mechanism: 'laplace', scale: between(0.3, 50), count };
  return {
    mechanism: 'poisson-laplace',
    samplingProbability: between(1e-6, 1),
    scale: between(0.3, 50),
    count: Math.round(between(1, 1e5)),
  };
}

interface Query {
  events: MechanismEvent[];
  delta: number;
}

const queries = (count: number, events: () => MechanismEvent[]): Query[] =>
  Array.from({ length: count }, () => ({ events: events(), delta: between(1e-15, 1e-2) }));

/** Processor time of this process, so that a busy machine does not count. */
function timed<T>(work: () => T): { result: T; seconds: number } {
  const before = process.cpuUsage();
  const result = work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
}

describe.each<[string, Query[]]>([
  ['one mechanism', queries(60, () => [training()])],
  [
    'one to six unlike mechanisms',
    queries(40, () => Array.from({ length: 1 + Math.floor(6 * random()) }, () => anything())),
  ],
])('over the whole range, %s', (_name, asked) => {
  test('answers are finite, quick, and need no Renyi divergence but where that is as good', () => {
    for (const { events, delta } of asked) {
      const name = JSON.stringify({ events, delta });
      const { result, seconds } = timed(() => composedEpsilon(events, delta));
      expect(Number.isFinite(result.epsilon), name).toBe(true);
      expect(seconds, name).toBeLessThan(2);
      const renyi = composedEpsilon(events, delta, 'rdp').epsilon;
      expect(result.epsilon, name).toBeLessThanOrEqual(renyi);
      if (result.accountant !== 'rdp') continue;
      expect(pldEpsilon(mergeEvents(events), delta), name).toBeLessThanOrEqual(renyi * 1.005 + 1e-3);
    }
    expect(process.resourceUsage().maxRSS / 1e3).toBeLessThan(500);
  });

  test('what is added never makes it cheaper', () => {
    for (const { events, delta } of asked.slice(0, 20)) {
      const { epsilon } = composedEpsilon(events, delta);
      const more = composedEpsilon([...events, { mechanism: 'gaussian', noiseMultiplier: 20, count: 3 }], delta);
      // Both are upper bounds, within half a percent of the truth.
      expect(more.epsilon * 1.005 + 1e-3, JSON.stringify({ events, delta })).toBeGreaterThan(epsilon);
    }
  });
});

test('Gaussian noise beside a great many steps at a tiny sampling probability', () => {
  const gaussian: MechanismEvent = { mechanism: 'gaussian', noiseMultiplier: 1.5, count: 1 };
  const steps: MechanismEvent = {
    mechanism: 'poisson-gaussian',
    samplingProbability: 4e-5,
    noiseMultiplier: 23,
    count: 84_000,
  };
  const alone = composedEpsilon([gaussian], 1e-6).epsilon;
  const both = composedEpsilon([gaussian, steps], 1e-6);
  expect(both.accountant).toBe('pld');
  expect(both.epsilon).toBeGreaterThanOrEqual(alone);
  expect(both.epsilon).toBeLessThan(alone * 1.001);
});

test('a hundred unlike mechanisms', () => {
  const events = Array.from({ length: 100 }, (_, i): MechanismEvent => ({
    mechanism: 'poisson-gaussian',
    samplingProbability: 0.01,
    noiseMultiplier: 1 + i / 1000,
    count: 10,
  }));
  const { result, seconds } = timed(() => composedEpsilon(events, 1e-6));
  expect(seconds).toBeLessThan(2);
  const cheapest = composedEpsilon([{ ...events[99]!, count: 1000 }], 1e-6).epsilon;
  const dearest = composedEpsilon([{ ...events[0]!, count: 1000 }], 1e-6).epsilon;
  expect(result.epsilon).toBeGreaterThan(cheapest);
  expect(result.epsilon).toBeLessThan(dearest);
});

test('Renyi divergence is finite and grows with the order, from hardly any noise to a great deal', () => {
  for (const noise of [0.01, 0.05, 0.1, 0.3, 1, 50, 1e6]) {
    for (const samplingProbability of [1e-9, 1e-3, 0.5, 0.999999]) {
      const events: MechanismEvent[] = [
        { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier: noise, count: 1 },
        { mechanism: 'poisson-laplace', samplingProbability, scale: noise, count: 1 },
        { mechanism: 'laplace', scale: noise, count: 1 },
        { mechanism: 'gaussian', noiseMultiplier: noise, count: 1 },
      ];
      for (const event of events) {
        const curve = rdpCurve([event]);
        const wrong = rdpOrders.filter(
          (_, i) => !Number.isFinite(curve[i]) || curve[i]! < (curve[i - 1] ?? 0) * (1 - 1e-9),
        );
        expect(wrong, JSON.stringify(event)).toEqual([]);
      }
    }
  }
});
