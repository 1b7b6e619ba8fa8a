import { describe, expect, it } from 'vitest';
import {
  advance,
  createSchedule,
  encodeStates,
  restoreSchedule,
  takeTogether,
  type Schedule,
  type ScheduleEvent,
} from '../../workflows/scheduler.ts';

/** `c: a b` is a node c that needs a and b; content keys are the names unless `name=key`. */
const graph = (...lines: string[]): Schedule =>
  createSchedule(
    lines.map((line) => {
      const [head = '', needs = ''] = line.split(':');
      const [id = '', key = id] = head.trim().split('=');
      return { id, key, needs: needs.split(' ').filter(Boolean) };
    }),
  );

const after = (schedule: Schedule, ...events: ScheduleEvent[]): Schedule =>
  events.reduce((state, event) => advance(state, event).schedule, schedule);

const started = (id: string): ScheduleEvent => ({ type: 'started', id });
const completed = (id: string): ScheduleEvent => ({ type: 'completed', id });
const failed = (id: string): ScheduleEvent => ({ type: 'failed', id });

describe('the scheduler', () => {
  it('starts a node as soon as its last input is there, whatever else still runs', () => {
    const schedule = graph('a', 'b', 'c: a', 'd: a b');
    expect([...schedule.ready]).toEqual(['a', 'b']);
    const one = after(schedule, started('a'), started('b'), completed('a'));
    expect([...one.ready]).toEqual(['c']);
    expect([...after(one, completed('b')).ready]).toEqual(['c', 'd']);
  });

  it('skips only what depends on a failure, and names the node that failed', () => {
    const schedule = after(graph('a', 'b', 'c: a', 'd: c', 'e: b'), started('a'), started('b'));
    const { schedule: next, skipped } = advance(schedule, failed('a'));
    expect(skipped).toEqual([
      { node: 'c', because: 'a' },
      { node: 'd', because: 'a' },
    ]);
    expect([...after(next, completed('b')).ready]).toEqual(['e']);
  });

  it('lets a cached node end without its inputs, and keeps it when they fail', () => {
    const schedule = after(graph('a', 'b: a', 'c: b'), completed('b'));
    expect([...schedule.ready]).toEqual(['a', 'c']);
    const { schedule: next, skipped } = advance(after(schedule, started('a')), failed('a'));
    expect(skipped).toEqual([]);
    expect(next.states.get('b')).toBe('completed');
  });

  it('runs one of several nodes with the same content key', () => {
    const schedule = graph('a=x', 'b=x', 'c: b');
    expect([...schedule.ready]).toEqual(['a']);
    expect(schedule.twins.get('b')).toBe('a');
    expect([...after(schedule, started('a'), completed('a')).ready]).toEqual(['b']);
  });

  it('starts nothing more once halted, and leaves what runs alone', () => {
    const schedule = after(graph('a', 'b', 'c: a'), started('a'));
    const { schedule: next, skipped } = advance(schedule, { type: 'halted', because: 'cancelled' });
    expect(skipped.map(({ node }) => node)).toEqual(['b', 'c']);
    expect([...after(next, completed('a')).ready]).toEqual([]);
    expect(next.counts).toMatchObject({ completed: 1, skipped: 2, running: 0, ready: 0, waiting: 0 });
  });

  it('gives nodes that hang together to one child, and nothing that needs what others run', () => {
    const schedule = graph('a', 'b', 'c: a', 'd: c', 'e: b', 'f: d e', 'g=a');
    const all = (): boolean => true;
    expect(takeTogether(schedule, 9, all)).toEqual(['a', 'c', 'd', 'b', 'e', 'f']);
    expect(takeTogether(schedule, 4, all)).toEqual(['a', 'c', 'd', 'b']);
    expect(takeTogether(schedule, 9, (id) => id !== 'b')).toEqual(['a', 'c', 'd']);
    expect(takeTogether(after(schedule, started('b')), 9, all)).toEqual(['a', 'c', 'd']);
  });

  it('skips what a child has not started, and all that waits for it, for the same reason', () => {
    const given = after(graph('a', 'b: a', 'c: b', 'd: c'), started('a'), { type: 'joined', id: 'b' }, failed('a'));
    expect(given.counts).toMatchObject({ running: 1, failed: 1, waiting: 2 });
    expect(advance(given, { type: 'dropped', id: 'b', because: 'a' }).skipped).toEqual([
      { node: 'b', because: 'a' },
      { node: 'c', because: 'a' },
      { node: 'd', because: 'a' },
    ]);
  });

  it('is the same after it was written down and read again', () => {
    const nodes = ['a', 'b', 'c', 'd', 'e', 'f'].map((id, place) => ({
      id,
      key: id,
      needs: place === 4 ? ['a', 'b'] : place === 5 ? ['c'] : [],
    }));
    const schedule = after(createSchedule(nodes), completed('a'), started('b'), started('c'), failed('c'));
    expect(encodeStates(schedule)).toBe('crf..s');
    const restored = restoreSchedule(nodes, 'crf..s');
    expect(restored).toEqual(schedule);
    expect([...after(restored, completed('b')).ready]).toEqual(['d', 'e']);
    expect(() => restoreSchedule(nodes, 'cr')).toThrow(RangeError);
  });

  it('refuses events that do not fit', () => {
    expect(() => after(graph('a', 'b: a'), started('b'))).toThrow(/b is waiting, not ready/);
    expect(() => after(graph('a'), completed('z'))).toThrow(/z is not in the plan/);
    expect(() => graph('a: b', 'b')).toThrow(/not earlier in the plan/);
    expect(() => graph('a', 'a')).toThrow(/twice/);
  });

  it('ends every random graph with each node settled once and no input after its user', () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
    for (let round = 0; round < 50; round += 1) {
      const needs = Array.from({ length: 40 }, (_, node) =>
        node === 0 ? [] : [...new Set(Array.from({ length: random(3) }, () => random(node)))],
      );
      let schedule = createSchedule(needs.map((ids, id) => ({ id: `${id}`, key: `${id}`, needs: ids.map(String) })));
      const done = new Set<string>();
      const running: string[] = [];
      while (schedule.ready.size > 0 || running.length > 0) {
        for (const id of schedule.ready) {
          expect(needs[Number(id)]!.every((need) => done.has(`${need}`))).toBe(true);
          schedule = after(schedule, started(id));
          running.push(id);
        }
        const [id] = running.splice(random(running.length), 1);
        const fails = random(10) === 0;
        schedule = after(schedule, fails ? failed(id!) : completed(id!));
        if (!fails) done.add(id!);
      }
      const { completed: ended, failed: broken, skipped } = schedule.counts;
      expect(ended + broken + skipped).toBe(40);
    }
  });

  it('takes 10,000 nodes in a chain and in a fan in well under a second', () => {
    const size = 10_000;
    const chain = createSchedule(
      Array.from({ length: size }, (_, id) => ({ id: `${id}`, key: `${id}`, needs: id === 0 ? [] : [`${id - 1}`] })),
    );
    const fan = createSchedule(
      Array.from({ length: size }, (_, id) => ({ id: `${id}`, key: `${id}`, needs: id === 0 ? [] : ['0'] })),
    );
    const begun = performance.now();
    for (let schedule of [chain, fan]) {
      for (let id = 0; id < size; id += 1) schedule = after(schedule, started(`${id}`), completed(`${id}`));
      expect(schedule.counts.completed).toBe(size);
    }
    expect(performance.now() - begun).toBeLessThan(2_000);
  });
});
