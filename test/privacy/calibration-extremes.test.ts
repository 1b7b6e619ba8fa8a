import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { beforeAll, expect, test } from 'vitest';

import { composedEpsilon, type MechanismEvent } from '../../privacy/accounting/index.ts';
import { packageRoot } from '../../stack/paths.ts';
import type { CalibrationAnswer } from './calibration-process.ts';
import { extremeTargets, type CalibrationTarget } from './extreme-queries.ts';

interface Answers {
  answers: CalibrationAnswer[];
  laplace: { event: MechanismEvent; epsilon: number; seconds: number }[];
  peakKilobytes: number;
}

async function ask(): Promise<Answers> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', 'test/privacy/calibration-process.ts'],
    { cwd: packageRoot, maxBuffer: 2 ** 26 },
  );
  return JSON.parse(stdout) as Answers;
}

const ALLOWED_SECONDS = 2;
let found: Answers;
beforeAll(async () => {
  found = await ask();
  if (found.answers.every(({ seconds }) => seconds < ALLOWED_SECONDS)) return;
  // What shares a core takes cycles from it that count as the query's: a second try, and each query's lesser time.
  const again = await ask();
  found.answers.forEach((answer, i) => {
    answer.seconds = Math.min(answer.seconds, again.answers[i]!.seconds);
  });
}, 300_000);

const spent = (
  { samplingProbability, noiseMultiplier, steps, delta }: CalibrationTarget,
  changed: Partial<CalibrationTarget>,
): number => {
  const {
    samplingProbability: q,
    noiseMultiplier: sigma,
    steps: count,
  } = { samplingProbability, noiseMultiplier, steps, ...changed };
  return composedEpsilon(
    [{ mechanism: 'poisson-gaussian', samplingProbability: q, noiseMultiplier: sigma, count }],
    delta,
  ).epsilon;
};

const solved = (asked: CalibrationTarget['asked']): (CalibrationAnswer & { value: number; epsilon: number })[] =>
  found.answers.filter((answer): answer is CalibrationAnswer & { value: number; epsilon: number } => {
    return answer.asked === asked && answer.value !== null;
  });

test('every target is met or refused with its reason, quickly and in little memory', () => {
  expect(found.answers).toHaveLength(extremeTargets.length);
  for (const answer of found.answers) {
    const query = JSON.stringify(answer);
    expect(answer.seconds, query).toBeLessThan(ALLOWED_SECONDS);
    if (answer.reason === null) {
      expect(Number.isFinite(answer.value), query).toBe(true);
      expect(answer.epsilon, query).toBeGreaterThanOrEqual(0);
      expect(answer.epsilon, query).toBeLessThanOrEqual(answer.targetEpsilon);
    } else {
      expect(answer.reason, query).toMatch(/^No (noise multiplier|sampling probability) in range reaches epsilon/);
    }
  }
  expect(found.peakKilobytes / 1e3).toBeLessThan(300);
});

test('Laplace noise of any scale has a finite epsilon, quickly', () => {
  for (const { event, epsilon, seconds } of found.laplace) {
    expect(seconds, JSON.stringify(event)).toBeLessThan(ALLOWED_SECONDS);
    expect(Number.isFinite(epsilon), JSON.stringify(event)).toBe(true);
    if (event.mechanism === 'laplace' || event.mechanism === 'discrete-laplace') {
      expect(epsilon).toBeLessThanOrEqual(event.count / event.scale);
    }
  }
});

// Searches narrow to 1e-5 and round to six digits, which is another 1e-5 at most.
const HARDLY = 2.5e-5;

test('hardly less noise would exceed the target', () => {
  for (const answer of solved('noise multiplier')) {
    const { value, epsilon, targetEpsilon } = answer;
    expect(spent(answer, { noiseMultiplier: value }), JSON.stringify(answer)).toBe(epsilon);
    // At the end of the range less is not offered.
    if (value <= 0.0501) continue;
    expect(spent(answer, { noiseMultiplier: value * (1 - HARDLY) }), JSON.stringify(answer)).toBeGreaterThan(
      targetEpsilon,
    );
  }
});

test('hardly more steps would exceed the target', () => {
  for (const answer of solved('steps')) {
    const { value, epsilon, targetEpsilon } = answer;
    expect(spent(answer, { steps: value }), JSON.stringify(answer)).toBe(epsilon);
    if (value >= 1e8) continue;
    const more = value + Math.max(1, Math.ceil(1e-6 * value));
    expect(spent(answer, { steps: more }), JSON.stringify(answer)).toBeGreaterThan(targetEpsilon);
  }
});

test('hardly more sampling would exceed the target', () => {
  for (const answer of solved('sampling probability')) {
    const { value, epsilon, targetEpsilon } = answer;
    expect(spent(answer, { samplingProbability: value }), JSON.stringify(answer)).toBe(epsilon);
    if (value === 1) continue;
    const more = Math.min(1, value * (1 + HARDLY));
    expect(spent(answer, { samplingProbability: more }), JSON.stringify(answer)).toBeGreaterThan(targetEpsilon);
  }
});
