import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { binomialLaw } from '../../measures/audit/binomial.ts';
import { auditOneRun, BigramModel, exposure, membershipFigures } from '../../measures/audit/index.ts';
import { epsilonLowerBound, guessProbability } from '../../measures/audit/one-run.ts';
import { clopperPearson } from '../../measures/index.ts';
import { seededStream } from '../../privacy/noise.ts';

interface Golden {
  bounds: {
    canaries: number;
    guesses: number;
    correct: number;
    delta: number;
    failure: number;
    /** Probability of as many right guesses at epsilon 1. */
    atOne: number;
    epsilon: number;
  }[];
  curves: {
    members: number[];
    others: number[];
    area: { value: number; low: number; high: number };
    rates: { falseAlarms: number; rate: number }[];
  }[];
  proportions: { hits: number; trials: number; low: number; high: number }[];
}

/** In 40 digits, and of scikit-learn and scipy: see make-golden-audit.py. */
const golden = JSON.parse(readFileSync(new URL('golden-audit.json', import.meta.url), 'utf8')) as Golden;

describe('the bound of epsilon by one run', () => {
  it.each(golden.bounds)('$correct of $guesses guesses about $canaries at delta $delta', (each) => {
    const probability = guessProbability(each, 1, each.delta);
    expect(probability).toBeGreaterThanOrEqual(each.atOne);
    expect(probability / each.atOne - 1).toBeLessThan(1e-9);
    const epsilon = epsilonLowerBound(each, each);
    // Never above the bound in 40 digits.
    expect(epsilon).toBeLessThanOrEqual(each.epsilon);
    expect(epsilon).toBeGreaterThan(each.epsilon - 1e-8 - 1e-300);
  });

  it('has the law of hits far into its tails, and for many guesses', () => {
    const { probabilities, relativeError } = binomialLaw(2000, 3);
    expect(Math.abs(probabilities[2000]! / 0.75 ** 2000 - 1)).toBeLessThan(relativeError);
    const whole = binomialLaw(100_000, 1).probabilities.reduce((sum, each) => sum + each, 0);
    expect(whole).toBeCloseTo(1, 12);
    expect(
      epsilonLowerBound({ canaries: 100_000, guesses: 100_000, correct: 50_500 }, { delta: 0, failure: 1e-6 }),
    ).toBe(0);
  });

  it('shows nothing where delta is as large as the failure that is allowed, whatever is guessed', () => {
    const all = { canaries: 1000, guesses: 1000, correct: 1000 };
    expect(epsilonLowerBound(all, { delta: 1e-6, failure: 1e-6 })).toBe(0);
    expect(epsilonLowerBound(all, { delta: 1e-10, failure: 1e-6 })).toBeGreaterThan(4);
  });

  it('takes the best number of guesses, at a part of the failure each', () => {
    const included = Uint8Array.from({ length: 640 }, (_, canary) => canary % 2);
    const settings = { delta: 1e-10, failure: 1e-6 };
    const seen = Float64Array.from(included, (each, canary) => (canary < 160 ? (each === 1 ? 9 : -9) : 0));
    const audit = auditOneRun(seen, included, settings);
    expect(audit).toMatchObject({ canaries: 640, guesses: 160, correct: 160 });
    expect(audit.epsilon).toBe(
      epsilonLowerBound({ canaries: 640, guesses: 160, correct: 160 }, { delta: 1e-10, failure: 2e-7 }),
    );
    expect(audit.most).toBeGreaterThan(audit.epsilon);
    expect(auditOneRun(new Float64Array(640), included, settings).epsilon).toBe(0);
  });

  it('is below epsilon for randomised response, whose guesses are as good as they can be', () => {
    const epsilon = 2;
    const told = 1 / (1 + Math.exp(-epsilon));
    const bounds = Array.from({ length: 20 }, (_, seed) => {
      const stream = seededStream(seed, 'randomised response');
      const included = Uint8Array.from({ length: 4000 }, () => Number(stream.uniform() < 0.5));
      const scores = Float64Array.from(included, (each) => (stream.uniform() < told ? each : 1 - each));
      return auditOneRun(scores, included, { delta: 1e-10, failure: 1e-6 }).epsilon;
    });
    expect(Math.max(...bounds)).toBeLessThan(epsilon);
    // The failure probability takes 5.1 standard deviations of the share that is right, and chance 4 at most. Where one
    // answer is given by more than half, the rest of it is guessed wrongly: 4 standard deviations of their number at most.
    const least = told - 9.1 * Math.sqrt((told * (1 - told)) / 4000) - ((2 * told - 1) * 4 * Math.sqrt(1000)) / 4000;
    expect(Math.min(...bounds)).toBeGreaterThan(Math.log(least / (1 - least)));
  });
});

describe('membership', () => {
  it.each(golden.curves)('curve of $members.length and $others.length is that of other implementations', (curve) => {
    const { area, rates } = membershipFigures(
      Float64Array.from(curve.members),
      Float64Array.from(curve.others),
      curve.rates.map(({ falseAlarms }) => falseAlarms),
    );
    for (const name of ['value', 'low', 'high'] as const) expect(area[name]).toBeCloseTo(curve.area[name], 9);
    for (const [place, { falseAlarms, rate }] of curve.rates.entries()) {
      expect(rates[place]).toMatchObject({ falseAlarms, rate: expect.closeTo(rate, 12) as number });
      expect(rates[place]!.low).toBeLessThanOrEqual(rate);
      expect(rates[place]!.high).toBeGreaterThanOrEqual(rate);
    }
  });

  it.each(golden.proportions)('$hits of $trials has the exact interval', ({ hits, trials, low, high }) => {
    const found = clopperPearson(hits, trials);
    expect(found.low).toBeCloseTo(low, 10);
    expect(found.high).toBeCloseTo(high, 10);
  });
});

describe('exposure and word pairs', () => {
  it('counts the candidates that are likelier, in bits', () => {
    const candidates = Float64Array.from({ length: 1023 }, (_, place) => place);
    expect(exposure(-1, candidates)).toBe(10);
    expect(exposure(0, candidates)).toBe(10);
    expect(exposure(3.5, candidates)).toBe(10 - Math.log2(5));
    expect(exposure(1e9, candidates)).toBe(0);
  });

  it('finds texts likely whose pairs the model has seen, as a mean over words and end', () => {
    const model = new BigramModel([['a', 'cold', 'night'], ['a', 'cold', 'day'], ['warm']]);
    const of = (...words: string[]): number => model.meanLogProbability(words);
    expect(of('a', 'cold', 'night')).toBeGreaterThan(of('night', 'cold', 'a'));
    expect(of('a', 'cold', 'night')).toBeGreaterThan(of('a', 'cold', 'unheard'));
    // P(a | beginning) = 0.6 * 2/3 + 0.3 * 2/10 + 0.1/7, P(end | a) = 0 + 0.3 * 3/10 + 0.1/7: three ends among ten words.
    const first = 0.6 * (2 / 3) + 0.3 * (2 / 10) + 0.1 / 7;
    const last = 0.3 * (3 / 10) + 0.1 / 7;
    expect(of('a')).toBeCloseTo((Math.log(first) + Math.log(last)) / 2, 12);
  });
});
