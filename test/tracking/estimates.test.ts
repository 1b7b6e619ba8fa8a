import { describe, expect, it } from 'vitest';

import { errorOf, estimatorFrom, type PastInstance, sumKnown, timeLeft } from '../../tracking/estimates.ts';
import { roughDuration, fileSize } from '../../tracking/wording.ts';

const ended = (work: number, seconds: number, more: Partial<PastInstance> = {}): PastInstance => ({
  group: 'finetune lora',
  work,
  volume: work,
  seconds,
  bytes: null,
  estimatedSeconds: null,
  ...more,
});

const drivers = (work: number, group = 'finetune lora'): { group: string; work: number; volume: number } => ({
  group,
  work,
  volume: work,
});

describe('an estimate', () => {
  it('is unknown where no instance of the group has ended', () => {
    expect(estimatorFrom([])(drivers(1))).toEqual({ seconds: null, bytes: null, from: 0 });
    expect(estimatorFrom([ended(1, 10)])(drivers(1, 'generate')).seconds).toBeNull();
  });

  it('is in proportion to the work where all had the same', () => {
    const estimate = estimatorFrom([ended(100, 20), ended(100, 20)]);
    expect(estimate(drivers(300)).seconds).toBeCloseTo(60, 9);
    expect(estimate(drivers(300)).from).toBe(2);
  });

  it('finds the part that every instance has, such as starting', () => {
    // Half a minute each, and one second for every ten of work.
    const past = [100, 300, 600, 1000].map((work) => ended(work, 30 + work / 10));
    const estimate = estimatorFrom(past);
    for (const work of [100, 450, 3000]) {
      expect(estimate(drivers(work)).seconds! / (30 + work / 10)).toBeCloseTo(1, 1);
    }
  });

  it('is not moved by single instances that were disturbed', () => {
    const past = [20, 21, 19, 20, 400].map((seconds) => ended(100, seconds));
    expect(estimatorFrom(past)(drivers(100)).seconds).toBeCloseTo(20, 9);
  });

  it('follows the newest 32', () => {
    const past = [
      ...Array.from({ length: 32 }, () => ended(100, 10)),
      ...Array.from({ length: 500 }, () => ended(100, 90)),
    ];
    expect(estimatorFrom(past)(drivers(100))).toEqual({
      seconds: expect.closeTo(10, 9) as number,
      bytes: null,
      from: 32,
    });
  });

  it('tells bytes from those whose size may be told', () => {
    const past = [ended(100, 10), ended(100, 10, { bytes: 5000 })];
    expect(estimatorFrom(past)(drivers(200)).bytes).toBeCloseTo(10_000, 6);
  });
});

describe('the error of earlier estimates', () => {
  const groups = new Set(['finetune lora']);

  it('is the median and the worst of actual / estimated, of the groups asked about', () => {
    const past = [
      ended(1, 10, { estimatedSeconds: 10 }),
      ended(1, 12, { estimatedSeconds: 10 }),
      ended(1, 5, { estimatedSeconds: 20 }),
      ended(1, 99, { estimatedSeconds: 1, group: 'generate' }),
      ended(1, 99),
    ];
    expect(errorOf(past, groups)).toEqual({ instances: 3, median: 1, worst: 0.25 });
  });

  it('is unknown where nothing was estimated', () => {
    expect(errorOf([ended(1, 10)], groups)).toBeNull();
  });
});

it('a sum says how many of its parts are unknown', () => {
  expect(sumKnown([])).toEqual({ sum: 0, unknown: 0 });
  expect(sumKnown([1, null, 2])).toEqual({ sum: 3, unknown: 1 });
  expect(sumKnown([null, null])).toEqual({ sum: null, unknown: 2 });
});

describe('the time left', () => {
  const estimate = estimatorFrom([ended(100, 100)]);
  const now = 1_000_000;
  type State = Parameters<typeof timeLeft>[0]['nodes'] extends ReadonlyMap<string, infer Node> ? Node : never;
  const started = (secondsAgo: number, attempt = 1): State => ({
    status: 'running',
    startedAt: now - secondsAgo * 1000,
    attempt,
  });
  const done: State = { status: 'completed', startedAt: 0, attempt: 1 };
  const planned = new Map([
    ['a', drivers(100)],
    ['b', drivers(200)],
  ]);
  const of = (
    nodes: Parameters<typeof timeLeft>[0]['nodes'],
    progress: Parameters<typeof timeLeft>[0]['progress'] = [],
  ) => timeLeft({ planned, nodes, progress, now }, estimate);

  it('is the sum of what waits', () => {
    expect(of(new Map()).sum).toBeCloseTo(300, 6);
  });

  it('leaves out what has ended, and what has passed of what runs', () => {
    expect(
      of(
        new Map([
          ['a', done],
          ['b', started(50)],
        ]),
      ).sum,
    ).toBeCloseTo(150, 6);
    expect(
      of(
        new Map([
          ['a', done],
          ['b', started(500)],
        ]),
      ).sum,
    ).toBe(0);
  });

  it('follows the pace that an instance shows', () => {
    const progress = [{ node: 'b', done: 10, total: 40, unit: 'steps' }];
    expect(
      of(
        new Map([
          ['a', done],
          ['b', started(60)],
        ]),
        progress,
      ).sum,
    ).toBeCloseTo(180, 6);
    // What went on from a checkpoint began at a moment that is not known: its share of the estimate counts.
    expect(
      of(
        new Map([
          ['a', done],
          ['b', started(5000, 2)],
        ]),
        progress,
      ).sum,
    ).toBeCloseTo(150, 6);
  });

  it('counts instances that run side by side', () => {
    expect(
      of(
        new Map([
          ['a', started(0)],
          ['b', started(0)],
        ]),
      ).sum,
    ).toBeCloseTo(150, 6);
  });

  it('says what it does not know', () => {
    const unknown = new Map([...planned, ['c', null] as const, ['d', drivers(1, 'generate')] as const]);
    expect(timeLeft({ planned: unknown, nodes: new Map(), progress: [], now }, estimate)).toEqual({
      sum: expect.closeTo(300, 6) as number,
      unknown: 2,
    });
  });

  it('takes what was expected at the start where nothing alike has run here', () => {
    const unknown = new Map([...planned, ['c', null] as const, ['d', drivers(1, 'generate')] as const]);
    const expected = new Map([
      ['a', 7],
      ['d', 50],
      ['c', null],
    ]);
    expect(timeLeft({ planned: unknown, expected, nodes: new Map(), progress: [], now }, estimate)).toEqual({
      sum: expect.closeTo(350, 6) as number,
      unknown: 1,
    });
  });
});

it('writes durations and sizes without more digits than they deserve', () => {
  expect([0.2, 45, 600, 7000, 100_000, 400_000].map(roughDuration)).toEqual([
    '1 s',
    '45 s',
    '10 min',
    '1.9 h',
    '28 h',
    '4.6 days',
  ]);
  expect([12, 999, 1000, 3_400_000, 25e9].map(fileSize)).toEqual(['12 B', '999 B', '1.0 kB', '3.4 MB', '25 GB']);
});
