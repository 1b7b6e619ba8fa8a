/** @file What the accountants are asked over the whole range that they promise to answer: its corners, and seeded points. */

import type { MechanismEvent } from '../../privacy/accounting/index.ts';
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

export interface Query {
  events: MechanismEvent[];
  delta: number;
}

const queries = (count: number, events: () => MechanismEvent[]): Query[] =>
  Array.from({ length: count }, () => ({ events: events(), delta: between(1e-15, 1e-2) }));

const corners = (): Query[] =>
  [1e-6, 1e-3, 0.5, 1].flatMap((samplingProbability) =>
    [0.3, 50].flatMap((noiseMultiplier) =>
      [1, 1e5].flatMap((count) =>
        [1e-15, 1e-2].map((delta): Query => {
          const event: MechanismEvent = { mechanism: 'poisson-gaussian', samplingProbability, noiseMultiplier, count };
          return { events: [event], delta };
        }),
      ),
    ),
  );

export const extremeQueries: Record<string, Query[]> = {
  'one mechanism': queries(60, () => [training()]),
  'one to six unlike mechanisms': queries(40, () =>
    Array.from({ length: 1 + Math.floor(6 * random()) }, () => anything()),
  ),
  'the corners': corners(),
};

/** Two of noise, steps and sampling probability, and the one that a target epsilon asks for; that is 0 here. */
export interface CalibrationTarget {
  asked: 'noise multiplier' | 'steps' | 'sampling probability';
  targetEpsilon: number;
  delta: number;
  noiseMultiplier: number;
  steps: number;
  samplingProbability: number;
}

const grid = {
  targetEpsilon: [0.001, 0.1, 10, 1000],
  noiseMultiplier: [0.3, 50],
  steps: [1, 1e5],
  samplingProbability: [1e-6, 1e-3, 1],
};

function targets(asked: CalibrationTarget['asked'], open: 'noiseMultiplier' | 'steps' | 'samplingProbability') {
  const { targetEpsilon: epsilons, ...rest } = { ...grid, [open]: [0] };
  return epsilons.flatMap((targetEpsilon) =>
    rest.noiseMultiplier.flatMap((noiseMultiplier) =>
      rest.steps.flatMap((steps) =>
        rest.samplingProbability.map((samplingProbability): CalibrationTarget => {
          return { asked, targetEpsilon, delta: 1e-5, noiseMultiplier, steps, samplingProbability };
        }),
      ),
    ),
  );
}

export const extremeTargets: CalibrationTarget[] = [
  ...targets('noise multiplier', 'noiseMultiplier'),
  ...targets('steps', 'steps'),
  ...targets('sampling probability', 'samplingProbability'),
];

/** Laplace noise of which hardly anything is left, and a great deal of it. */
export const extremeMechanisms: MechanismEvent[] = [0.01, 50].flatMap((scale) =>
  [1, 1e5].flatMap((count): MechanismEvent[] => [
    { mechanism: 'laplace', scale, count },
    { mechanism: 'discrete-laplace', scale, count },
    { mechanism: 'poisson-laplace', samplingProbability: 1e-6, scale, count },
    { mechanism: 'poisson-laplace', samplingProbability: 0.3, scale, count },
  ]),
);
