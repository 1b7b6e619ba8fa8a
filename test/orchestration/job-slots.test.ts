import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { ControlActivities } from '../../activities/contract.ts';
import { JobSlots } from '../../activities/job-slots.ts';
import { slicePlan } from '../../activities/plan-slices.ts';
import { madeUpPlan } from './cheap-experiment.ts';
import { cheapWorldOfTests, Gate, idsOf, until } from './cheap-world-of-tests.ts';

describe('places for jobs', () => {
  let slots: JobSlots;
  let granted: string[];
  const permits = new Map<string, object>();
  beforeEach(() => {
    vi.useFakeTimers();
    granted = [];
    permits.clear();
    return () => vi.useRealTimers();
  });

  const open = (count: number): void => void (slots = new JobSlots(count));
  const ask = (taskQueue: string, signal = new AbortController().signal): void => {
    const context = {
      taskQueue,
      slotType: 'activity',
      isSticky: false,
      workerIdentity: '',
      workerBuildId: '',
    } as const;
    slots.reserveSlot(context, signal).then(
      (permit) => {
        granted.push(taskQueue);
        permits.set(taskQueue, permit);
      },
      () => granted.push(`${taskQueue} left`),
    );
  };
  const give = (queue: string): void =>
    slots.markSlotUsed({ permit: permits.get(queue)!, slotInfo: { type: 'activity', activityType: 'generate' } });
  const release = (queue: string): void => slots.releaseSlot({ permit: permits.get(queue)! });
  const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

  it('let no queue be asked while all are taken, and then the one that has waited longest', async () => {
    open(1);
    ask('a');
    await pass(0);
    give('a');
    ask('a');
    ask('b');
    await pass(60_000);
    expect(granted).toEqual(['a']);
    release('a');
    ask('a');
    await pass(0);
    expect(granted).toEqual(['a', 'a']);
  });

  it('let other queues be asked, too, when the first has nothing', async () => {
    open(1);
    for (const queue of ['a', 'b', 'c']) ask(queue);
    await pass(0);
    expect(granted).toEqual(['a']);
    await pass(200);
    expect(granted).toEqual(['a', 'b']);
    give('b');
    await pass(60_000);
    expect(granted).toEqual(['a', 'b']);
    release('b');
    // The first is still being asked, so the other waits for what it says.
    await pass(0);
    expect(granted).toEqual(['a', 'b']);
    await pass(200);
    expect(granted).toEqual(['a', 'b', 'c']);
  });

  it('are as many as were said, for one queue and for several', async () => {
    open(2);
    ask('a');
    ask('b');
    ask('a');
    await pass(0);
    expect(granted).toEqual(['a', 'b']);
    await pass(60_000);
    expect(granted).toEqual(['a', 'b']);
    give('a');
    await pass(200);
    expect(granted).toEqual(['a', 'b', 'a']);
  });

  it('are not given to who has gone', async () => {
    open(1);
    const going = new AbortController();
    ask('a');
    ask('b', going.signal);
    going.abort();
    ask('c');
    await pass(1000);
    expect(granted).toEqual(['a', 'b left', 'c']);
  });

  it('take one job each, and refuse what is too much', async () => {
    open(1);
    let end: (word: string) => void;
    const first = slots.inPlace(() => new Promise<string>((resolve) => (end = resolve)));
    await expect(slots.inPlace(() => Promise.resolve())).rejects.toMatchObject({ type: 'WORKER_BUSY' });
    end!('done');
    expect(await first).toBe('done');
    expect(await slots.inPlace(() => Promise.resolve('next'))).toBe('next');
  });
});

describe('two hosts that serve a queue', () => {
  const { world, work } = cheapWorldOfTests();

  it('leave a job to the one that has a place for it', async () => {
    const plan = madeUpPlan(
      'hosts',
      ['first', 'second'].map((id) => ({ id })),
    );
    // Of two sets of data.
    const readPlanSlice: ControlActivities['readPlanSlice'] = () => {
      const slice = slicePlan(plan, 0);
      const nodes = slice.nodes.map((node) => ({ ...node, queue: `cpu.${node.id}`, reads: [node.id] }));
      return Promise.resolve({ ...slice, nodes });
    };
    await work(() => Promise.reject(new Error('not here')), 1, { readPlanSlice });
    const busy = new Gate();
    const idle = new Gate();
    const one = await world().takeJobs(['cpu.first', 'cpu.second'], ({ nodeId }) => busy.wait(nodeId));
    const { run, result, events } = await world().start(plan);
    await until('the only host is at work', () => busy.started.size === 1);
    const other = await world().takeJobs(['cpu.first', 'cpu.second'], ({ nodeId }) => idle.wait(nodeId));
    await until('the other has begun', () => idle.started.size === 1);
    expect([...busy.started, ...idle.started].sort()).toEqual(['first', 'second']);
    idle.pass(...idle.started);
    await until('one has ended', () => idsOf(events(), 'node-completed').length === 1);
    expect(busy.started.size).toBe(1);
    busy.pass(...busy.started);
    expect(await result).toMatchObject({ status: 'completed', completed: 2 });
    expect(idsOf(events(), 'node-started')).toEqual(['first', 'second']);
    expect(run.name).toBe('hosts');
    await Promise.all([one.stop(), other.stop()]);
  });
});
