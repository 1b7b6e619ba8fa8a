import { afterEach, describe, expect, it, vi } from 'vitest';

import { Asker } from '../../cli/asker.ts';
import { describeAwaited } from '../../cli/awaited-workers.ts';
import { EventLines } from '../../cli/event-lines.ts';
import { describeRate, renderBlock, renderLine, type LiveState, type RunningStep } from '../../cli/live-block.ts';
import { createLiveView } from '../../cli/live-view.ts';
import { ProgressRates } from '../../cli/progress-rates.ts';
import { groupsOf } from '../../cli/run-groups.ts';
import { spentLine } from '../../cli/spent-epsilon.ts';
import type { AccountSummary } from '../../privacy/ledger/index.ts';
import type { RunEvent } from '../../tracking/events.ts';
import { GrowingSummary, summariseRun } from '../../tracking/run-summary.ts';

afterEach(() => void vi.useRealTimers());

const plain = (_style: string, text: string): string => text;
const marked = (style: string, text: string): string => `\u001b[${style.length}m${text}\u001b[0m`;
const bare = (line: string): string => line.replaceAll(/\u001b\[\d+m/g, '');

const training = (node: string, done: number, rate: number | null): RunningStep => ({
  node,
  progress: { node, phase: 'train', done, total: 1000, unit: 'steps', time: 0 },
  rate,
});

const quickstart: LiveState = {
  groups: [
    { step: 'generator', total: 2, done: 1, running: 1, failed: 0, leftOut: 0 },
    { step: 'synthetic', total: 2, done: 0, running: 0, failed: 1, leftOut: 0 },
    { step: 'on-synthetic', total: 4, done: 0, running: 0, failed: 0, leftOut: 2 },
    { step: 'question', total: 1, done: 1, running: 0, failed: 0, leftOut: 0 },
  ],
  running: [
    training('generator[dataset=speeches,epsilon=8]', 412, 3.14),
    { node: 'other', progress: null, rate: null },
  ],
  left: { sum: 600, unknown: 0 },
  spent: ['speeches: 3.2 committed, 8.1 of 10 with all that is reserved, at delta 0.00001'],
  links: [
    ['Temporal', 'http://127.0.0.1:8233/namespaces/default/workflows/quickstart%2F1'],
    ['MLflow', 'http://127.0.0.1:5000'],
  ],
};

const wide = { columns: 120, rows: 30 };

const many = (steps: number, instances: number): LiveState => ({
  ...quickstart,
  groups: Array.from({ length: steps }, (_, place) => ({
    ...{
      step: `step-${place}`,
      total: instances,
      done: 12,
      running: place === steps - 1 ? 3 : 0,
      failed: 0,
      leftOut: 0,
    },
  })),
  running: Array.from({ length: 40 }, (_, place) => training(`step[seed=${place}]`, place, null)),
});

describe('the block of a run', () => {
  it('shows steps, what runs and how fast, what was spent, and links', () => {
    expect(`\n${renderBlock(quickstart, wide, plain).join('\n')}\n`).toMatchInlineSnapshot(`
      "
      █████░░░░░░░░░░░░░░░░░░░ 2/9 instances, 3 failed or skipped, about 10 min left
        generator    1/2 done, 1 running
        synthetic    0/2 done, 1 waiting, 1 failed
        on-synthetic 0/4 done, 2 waiting, 2 skipped
        question     1/1 done
        generator[dataset=speeches,epsilon=8] train 412/1,000 steps, 3.1 steps/s
        other starting
        Epsilon  speeches: 3.2 committed, 8.1 of 10 with all that is reserved, at delta 0.00001
        Temporal http://127.0.0.1:8233/namespaces/default/workflows/quickstart%2F1
        MLflow   http://127.0.0.1:5000
      "
    `);
  });

  it('says in one line where there is no screen how far a run is', () => {
    expect(renderLine(quickstart)).toMatchInlineSnapshot(
      `"... 2 of 9 instances done, about 10 min left; generator 1/2 done, 1 running; synthetic 0/2 done, 1 waiting, 1 failed; epsilon speeches: 3.2 committed, 8.1 of 10 with all that is reserved, at delta 0.00001; generator[dataset=speeches,epsilon=8] train 412/1,000 steps, 3.1 steps/s; other starting"`,
    );
    expect(renderLine(many(7, 1500))).toMatchInlineSnapshot(
      `"... 84 of 10,500 instances done, about 10 min left; step-6 12/1,500 done, 3 running, 1,485 waiting; epsilon speeches: 3.2 committed, 8.1 of 10 with all that is reserved, at delta 0.00001; step[seed=0] train 0/1,000 steps; step[seed=1] train 1/1,000 steps; step[seed=2] train 2/1,000 steps; step[seed=3] train 3/1,000 steps; and 36 more running"`,
    );
  });

  it('shows counts by step where instances do not fit, those that run first', () => {
    expect(`\n${renderBlock(many(9, 1500), { columns: 60, rows: 16 }, plain).join('\n')}\n`).toMatchInlineSnapshot(`
      "
      ░░░░░░░░░░░░░░░░░░░░░░░░ 108/13,500 instances, about 10 min
        step-8 12/1,500 done, 3 running, 1,485 waiting
        step-0 12/1,500 done, 1,488 waiting
        step-1 12/1,500 done, 1,488 waiting
        step-2 12/1,500 done, 1,488 waiting
        5 more steps
        step[seed=0] train 0/1,000 steps
        step[seed=1] train 1/1,000 steps
        step[seed=2] train 2/1,000 steps
        step[seed=3] train 3/1,000 steps
        36 more instances run
        Epsilon  speeches: 3.2 committed, 8.1 of 10 with all that
        Temporal http://127.0.0.1:8233/namespaces/default/workflo
        MLflow   http://127.0.0.1:5000
      "
    `);
  });

  it.each([
    [200, 60],
    [80, 24],
    [40, 10],
    [20, 5],
    [10, 2],
    [1, 1],
  ])('fits into %i columns and %i rows', (columns, rows) => {
    for (const state of [quickstart, many(1, 10), many(30, 2000)]) {
      const block = renderBlock(state, { columns, rows }, marked);
      expect(block.length).toBeLessThanOrEqual(Math.max(2, rows - 2));
      for (const line of block) expect(bare(line).length).toBeLessThan(Math.max(2, columns));
    }
  });

  it('is the same without colours', () => {
    expect(renderBlock(quickstart, wide, marked).map(bare)).toEqual(renderBlock(quickstart, wide, plain));
  });
});

describe('the rate of a step', () => {
  const progress = (done: number, time: number, phase = 'train') => ({
    ...{ node: 'a', phase, done, total: 1000, unit: 'steps', time },
  });

  it('is what was done in the last half minute, by the time at which it was told', () => {
    const rates = new ProgressRates();
    rates.note([progress(0, 0)]);
    expect(rates.of('a', 0)).toBeNull();
    rates.note([progress(2, 1_000)]);
    rates.note([progress(2, 1_000)]);
    expect(rates.of('a', 1_200)).toBe(2);
    for (let second = 2; second <= 60; second += 1) rates.note([progress(second + 1, second * 1_000)]);
    expect(rates.of('a', 60_000)).toBeCloseTo(1, 6);
  });

  it('of slow steps is that of the last one, and falls while nothing comes', () => {
    const rates = new ProgressRates();
    for (const done of [1, 2, 3]) rates.note([progress(done, done * 100_000)]);
    expect(rates.of('a', 310_000)).toBeCloseTo(0.01, 6);
    expect(rates.of('a', 500_000)).toBeCloseTo(0.005, 6);
  });

  it('begins anew with a phase, with an attempt that goes back, and when the instance is gone', () => {
    const rates = new ProgressRates();
    for (const second of [1, 2]) rates.note([progress(second, second * 1_000)]);
    rates.note([progress(0, 3_000, 'write')]);
    expect(rates.of('a', 3_000)).toBeNull();
    for (const second of [4, 5]) rates.note([progress(second, second * 1_000, 'write')]);
    expect(rates.of('a', 5_000)).not.toBeNull();
    rates.note([progress(1, 6_000, 'write')]);
    expect(rates.of('a', 6_000)).toBeNull();
    rates.note([]);
    expect(rates.of('a', 6_000)).toBeNull();
  });

  it('is written so that it is 1 at least', () => {
    expect([12_345.6, 100, 3.14, 1, 0.5, 0.01, 0.00001].map((rate) => describeRate(rate, 'steps'))).toEqual([
      '12,346 steps/s',
      '100 steps/s',
      '3.1 steps/s',
      '1 steps/s',
      '30 steps/min',
      '36 steps/h',
      '0.036 steps/h',
    ]);
  });
});

const ended = (node: string): RunEvent => ({
  type: 'node-completed',
  ...{ time: 2, node, key: 'k', reused: false, metrics: { accuracy: 0.5 }, seconds: 3, attempt: 1 },
});
const started = (node: string, attempt = 1): RunEvent => ({ type: 'node-started', time: 1, node, attempt });
const failed = (node: string): RunEvent => ({
  type: 'node-failed',
  time: 2,
  node,
  code: 'JOB_CRASHED',
  message: 'gone',
});

describe('what has happened', () => {
  const lines = (instances: number, events: RunEvent[]): string[] => {
    const told = new EventLines({ instances, tellsStarts: false, paint: plain });
    return events.flatMap((event) => told.of(event));
  };

  it('is told instance by instance in a small run, and by exception in a large one', () => {
    const events = [started('a'), started('a', 2), ended('a'), failed('b')];
    expect(lines(100, events)).toEqual([
      'again  a attempt 2, from its last checkpoint',
      'done   a 3.0 s accuracy 0.500',
      'failed b: JOB_CRASHED: gone',
    ]);
    expect(lines(101, events)).toEqual(['again  a attempt 2, from its last checkpoint', 'failed b: JOB_CRASHED: gone']);
  });

  it('is told of few failures only', () => {
    const told = lines(
      10_000,
      Array.from({ length: 5_000 }, (_, place) => failed(`b[${place}]`)),
    );
    expect(told).toHaveLength(21);
    expect(told.at(-1)).toBe('failed more than 20 instances: see epsilonflow status');
  });
});

describe('a terminal', () => {
  it('is written to once a look, and not where nothing has changed', () => {
    const stderr = process.stderr;
    const before = stderr.isTTY;
    const write = vi.spyOn(stderr, 'write').mockReturnValue(true);
    stderr.isTTY = true;
    try {
      const view = createLiveView(10_000);
      const events = Array.from({ length: 10_000 }, (_, place) => ended(`step[seed=${place}]`));
      view.show(events, quickstart);
      view.show([], quickstart);
      view.show([failed('a'), failed('b')], quickstart);
      view.show([], { ...quickstart, left: null });
      expect(write).toHaveBeenCalledTimes(3);
      view.end();
    } finally {
      stderr.isTTY = before;
      write.mockRestore();
    }
  });
});

it('says of each queue once what waits in it', () => {
  const waiting = [1, 2, 3].map((seed) => ({ node: `a[seed=${seed}]`, queue: 'gpu', datasets: [] }));
  expect([...describeAwaited([...waiting, { node: 'b', queue: 'cpu.d', datasets: ['weather'] }])]).toEqual([
    ['gpu', 'a[seed=1] and 2 more: waits for a free worker of the queue gpu: epsilonflow worker --queues gpu'],
    ['cpu.d', 'b: waits for a free worker that has dataset weather: epsilonflow worker --data SPEC'],
  ]);
});

it('counts instances by step and state', () => {
  const nodes = ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => ({ id, step: id < 'f' ? 'one' : 'two' }));
  const events = [
    started('a'),
    ended('a'),
    started('b'),
    failed('c'),
    { type: 'node-cancelled', time: 3, node: 'd' } as const,
  ];
  expect(groupsOf({ nodes }, summariseRun(events).nodes)).toEqual([
    { step: 'one', total: 5, done: 1, running: 1, failed: 1, leftOut: 1 },
    { step: 'two', total: 1, done: 0, running: 0, failed: 0, leftOut: 0 },
  ]);
});

it('summarises a log that grows as it would the whole', () => {
  const events = [started('a'), started('b'), ended('a'), failed('b'), started('b', 2)];
  const growing = new GrowingSummary();
  for (const event of events) growing.add([event]);
  expect(growing.add([])).toEqual(summariseRun(events));
});

it('says of an account what it has come to, never less', () => {
  const summary = {
    ...{ account: 'speeches', digests: [], budget: 10, delta: 1e-5, committed: 3.14159, reserved: 5, total: 8.00001 },
    ...{ accountant: 'rdp', remaining: 1, unbounded: 0, experiments: [], waivers: [], losses: [] },
  } as AccountSummary;
  expect(spentLine(summary)).toBe('speeches: 3.142 committed, 8.001 of 10 with all that is reserved, at delta 0.00001');
  const more = {
    ...summary,
    ...{ budget: null, total: null, committed: null, unbounded: 2 },
    waivers: [{ waiver: 'test-metrics', reason: 'a test', row: 3, experiment: 'e', planDigest: 'p' }],
    losses: [{ problem: 'rolled-back', row: 4, author: 'a', reason: 'r' }],
  } as AccountSummary;
  expect(spentLine(more)).toMatchInlineSnapshot(
    `"speeches: ∞ committed, ∞ with all that is reserved, at delta 0.00001; 2 entries without DP, which no epsilon bounds; not counted: exact figures under test-metrics; not counted: what rows held that the ledger has lost"`,
  );
});

describe('a question asked beside other work', () => {
  it('is asked ever less often while nothing happens, and soon after news', async () => {
    let asked = 0;
    const asker = new Asker(async () => void (asked += 1), { least: 1_000, most: 10_000 });
    vi.useFakeTimers({ now: 0 });
    /** At which of the seconds it is asked. */
    const during = async (seconds: number, newsAt: number | null): Promise<number[]> => {
      const times: number[] = [];
      for (let passed = 0; passed < seconds; passed += 1) {
        const before = asked;
        asker.tick(newsAt !== null && passed >= newsAt ? 1 : 0, Date.now());
        await vi.advanceTimersByTimeAsync(1_000);
        if (asked > before) times.push(passed);
      }
      return times;
    };
    expect(await during(60, null)).toEqual([0, 2, 5, 9, 15, 23, 33, 43, 53]);
    expect((await during(8, 4)).filter((passed) => passed >= 4)).toEqual([4, 6]);
  });

  it('is asked once at a time, keeps nobody waiting, and throws at the next look what it has thrown', async () => {
    let answer: (error: Error) => void = () => undefined;
    let asked = 0;
    const asker = new Asker(
      () => {
        asked += 1;
        return new Promise((_, reject) => (answer = reject));
      },
      { least: 1, most: 1 },
    );
    asker.tick(0, 0);
    asker.tick(1, 100);
    expect(asked).toBe(1);
    answer(new Error('away'));
    await new Promise((resolve) => setImmediate(resolve));
    expect(() => asker.tick(2, 200)).toThrow('away');
  });
});
