import { describe, expect, it } from 'vitest';

import { decays, rateMultiple, update, usualAdam, type Optimised } from '../../learning/dp/optimisers.ts';
import { learningRate, type Schedule } from '../../learning/schedule.ts';
import type { Optimizer } from '../../schemas/step-params.ts';

const parameter = (...values: number[]): Optimised => ({
  values: Float32Array.from(values),
  first: new Float32Array(values.length),
  second: new Float32Array(values.length),
});

const gradients = [
  [0.5, -2, 0.1],
  [0.25, 1, -0.3],
  [-1, 0.5, 0.7],
  [0.125, 0, 2],
];

/** Values after the gradients, one a step, at rate 0.1, from (1, -0.5, 2). */
function after(optimizer: Optimizer): number[] {
  const own = parameter(1, -0.5, 2);
  gradients.forEach((gradient, step) =>
    update(optimizer, own, Float64Array.from(gradient), { step, rate: 0.1, decays: true }),
  );
  return Array.from(own.values);
}

// Made with torch 2.12.1 in float64: torch.optim.Adam, AdamW and SGD, at lr 0.1, over the same gradients.
const reference: [string, Optimizer, number[]][] = [
  ['Adam', usualAdam, [0.837522933, -0.362019806, 1.841178289]],
  [
    'Adam of other numbers',
    { kind: 'adam', beta1: 0.8, beta2: 0.9, epsilon: 0.01 },
    [0.854826405, -0.380351479, 1.844058849],
  ],
  ['AdamW', { ...usualAdam, kind: 'adamw', weightDecay: 0.5 }, [0.674380588, -0.286448799, 1.481761998]],
  ['SGD', { kind: 'sgd', momentum: 0 }, [1.0125, -0.45, 1.75]],
  ['SGD with momentum', { kind: 'sgd', momentum: 0.9 }, [0.9378, -0.1782, 1.71391]],
];

describe('an optimiser gives what PyTorch gives', () => {
  it.each(reference)('%s', (_, optimizer, expected) => {
    after(optimizer).forEach((value, index) => expect(value).toBeCloseTo(expected[index]!, 6));
  });
});

describe('Adam', () => {
  it('moves against the gradient by the rate in its first step', () => {
    const own = parameter(1, 1);
    update(usualAdam, own, Float64Array.of(0.5, -2), { step: 0, rate: 0.01, decays: false });
    expect(own.values[0]).toBeCloseTo(0.99, 6);
    expect(own.values[1]).toBeCloseTo(1.01, 6);
    expect(own.first[0]).toBeCloseTo((1 - usualAdam.beta1) * 0.5, 6);
  });

  it('moves class rows faster', () => {
    const multiples = (['lora', 'vectors', 'bias'] as const).map((group) => rateMultiple({ kind: 'lora' }, group));
    expect(multiples).toEqual([1, 4, 5]);
  });
});

describe('weight decay', () => {
  const adamw: Optimizer = { ...usualAdam, kind: 'adamw', weightDecay: 0.5 };

  it('pulls at matrices alone', () => {
    expect(decays({ shape: [4, 2], group: 'lora' })).toBe(true);
    expect(decays({ shape: [4, 2], group: 'weights' })).toBe(true);
    expect(decays({ shape: [4], group: 'weights' })).toBe(false);
    expect(decays({ shape: [3, 4], group: 'vectors' })).toBe(false);
    expect(decays({ shape: [3, 9], group: 'bias' })).toBe(false);
  });

  it('leaves other parameters as Adam has them', () => {
    const [one, other] = [parameter(1), parameter(1)];
    update(adamw, one, Float64Array.of(0.3), { step: 0, rate: 0.1, decays: false });
    update(usualAdam, other, Float64Array.of(0.3), { step: 0, rate: 0.1, decays: false });
    expect(one).toEqual(other);
  });
});

describe('the learning rate', () => {
  const schedule: Schedule = { lr: 1, warmup: 2, decay: 'linear', finalLr: 0.1, steps: 12 };
  const ratesOf = (given: Schedule): number[] =>
    Array.from({ length: given.steps }, (_, step) => learningRate(given, step));

  it('rises and falls in lines', () => {
    const rates = ratesOf(schedule);
    expect(rates.slice(0, 3)).toEqual([0.5, 1, 1]);
    expect(rates[11]).toBeCloseTo(0.1, 10);
    expect(rates[7]).toBeCloseTo(0.5, 10);
  });

  it('falls in half a cosine', () => {
    const rates = ratesOf({ ...schedule, warmup: 10, decay: 'cosine', steps: 100 });
    expect(rates[0]).toBeCloseTo(0.1);
    expect(rates[9]).toBeCloseTo(1);
    expect(rates[10]).toBeCloseTo(1);
    expect(rates[99]).toBeCloseTo(0.1);
    for (let step = 11; step < 100; step++) expect(rates[step]!).toBeLessThan(rates[step - 1]!);
    expect(rates[54]! + rates[55]!).toBeCloseTo(1.1, 2);
  });

  it('stays', () => {
    expect(ratesOf({ ...schedule, decay: 'constant' }).slice(1)).toEqual(Array(11).fill(1));
  });

  it('needs no warm-up', () => {
    expect(learningRate({ ...schedule, warmup: 0 }, 0)).toBe(1);
    expect(learningRate({ ...schedule, warmup: 0, steps: 1 }, 0)).toBeCloseTo(0.1);
  });
});
