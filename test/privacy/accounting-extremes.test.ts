import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { beforeAll, describe, expect, test } from 'vitest';

import { composedEpsilon, rdpCurve, type MechanismEvent } from '../../privacy/accounting/index.ts';
import { rdpOrders } from '../../privacy/accounting/renyi.ts';
import { packageRoot } from '../../stack/paths.ts';
import type { ExtremeAnswer } from './accounting-process.ts';
import { extremeQueries } from './extreme-queries.ts';

interface Answers {
  answers: Record<string, ExtremeAnswer[]>;
  peakKilobytes: number;
}

let found: Answers;
beforeAll(async () => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', 'test/privacy/accounting-process.ts'],
    { cwd: packageRoot, maxBuffer: 2 ** 26 },
  );
  found = JSON.parse(stdout) as Answers;
}, 300_000);

/** Processor time of this process, so that a busy machine does not count. */
function timed<T>(work: () => T): { result: T; seconds: number } {
  const before = process.cpuUsage();
  const result = work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
}

test('a process that answers all of them, the runtime included, stays within 300 MB', () => {
  expect(found.peakKilobytes / 1e3).toBeLessThan(300);
});

describe.each(Object.entries(extremeQueries))('over the whole range, %s', (name, asked) => {
  test('answers are finite, quick, and need no Renyi divergence but where that is as good', () => {
    const answers = found.answers[name]!;
    expect(answers).toHaveLength(asked.length);
    for (const { events, delta, epsilon, accountant, seconds, renyi, distribution } of answers) {
      const query = JSON.stringify({ events, delta });
      expect(Number.isFinite(epsilon), query).toBe(true);
      expect(seconds, query).toBeLessThan(2);
      expect(epsilon, query).toBeLessThanOrEqual(renyi);
      if (accountant !== 'rdp') continue;
      expect(distribution ?? Infinity, query).toBeLessThanOrEqual(renyi * 1.005 + 1e-3);
    }
  });

  test('what is added never makes it cheaper', () => {
    for (const { events, delta, epsilon } of found.answers[name]!.slice(0, 20)) {
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

test.each([0.01, 0.02, 0.03])('Laplace noise of scale %d, of which hardly anything is left', (scale) => {
  for (const mechanism of ['laplace', 'discrete-laplace'] as const) {
    const { result, seconds } = timed(() => composedEpsilon([{ mechanism, scale, count: 1 }], 1e-5));
    expect(seconds).toBeLessThan(2);
    expect(result.epsilon).toBeLessThanOrEqual(1 / scale);
    expect(result.epsilon).toBeGreaterThan(0.9 / scale);
  }
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
