/** @file A process that calibrates over the extremes and nothing else; prints answers, times and its peak memory. */

import { readFileSync } from 'node:fs';

import { composedEpsilon } from '../../privacy/accounting/index.ts';
import { calibrateNoiseMultiplier, calibrateSamplingProbability, calibrateSteps } from '../../privacy/calibration.ts';
import { extremeMechanisms, extremeTargets, type CalibrationTarget } from './extreme-queries.ts';

export interface CalibrationAnswer extends CalibrationTarget {
  /** What was found; null where the request was refused. */
  value: number | null;
  epsilon: number | null;
  /** Why it was refused. */
  reason: string | null;
  /** Processor time, so that a busy machine does not count. */
  seconds: number;
}

function timed<T>(work: () => T): { result: T; seconds: number } {
  const before = process.cpuUsage();
  const result = work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
}

function solve(target: CalibrationTarget): { value: number; epsilon: number } {
  switch (target.asked) {
    case 'noise multiplier': {
      const { noiseMultiplier, epsilon } = calibrateNoiseMultiplier(target);
      return { value: noiseMultiplier, epsilon };
    }
    case 'steps': {
      const { steps, epsilon } = calibrateSteps(target);
      return { value: steps, epsilon };
    }
    case 'sampling probability': {
      const { samplingProbability, epsilon } = calibrateSamplingProbability(target);
      return { value: samplingProbability, epsilon };
    }
  }
}

function answer(target: CalibrationTarget): CalibrationAnswer {
  const { result, seconds } = timed(() => {
    try {
      return { ...solve(target), reason: null };
    } catch (error) {
      return { value: null, epsilon: null, reason: (error as Error).message };
    }
  });
  return { ...target, ...result, seconds };
}

const answers = extremeTargets.map(answer);
const laplace = extremeMechanisms.map((event) => {
  const { result, seconds } = timed(() => composedEpsilon([event], 1e-5));
  return { event, epsilon: result.epsilon, seconds };
});
const peakKilobytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
process.stdout.write(JSON.stringify({ answers, laplace, peakKilobytes }));
