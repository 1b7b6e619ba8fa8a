import { describe, expect, it } from 'vitest';
import type { PlannedNode } from '../../activities/contract.ts';
import { Places, withOwnPlaces } from '../../workflows/limits.ts';
import { advance, createSchedule, takeTogether, type Schedule } from '../../workflows/scheduler.ts';
import { madeUpPlan, type MadeUpNode } from './cheap-experiment.ts';
import { cheapWorldOfTests, Gate, idsOf, layers, until } from './cheap-world-of-tests.ts';

describe('places under limits', () => {
  /** `id[@queue][: need need]` each, in plan order; those after `+` run. */
  function graph(...lines: string[]): { schedule: Schedule; nodes: Map<string, PlannedNode> } {
    const planned = lines.map((line) => {
      const [, isRunning, id, queue, needs = ''] = /^(\+?)(\w+)(?:@(\w+))?(?:: (.*))?$/.exec(line)!;
      const node = { id: id!, key: id!, kind: 'generate', needs: needs.split(' ').filter(Boolean) };
      return { isRunning: isRunning === '+', node: { ...node, ...(queue && { queue }) } as unknown as PlannedNode };
    });
    let schedule = createSchedule(planned.map(({ node }) => node));
    for (const { isRunning, node } of planned) {
      if (!isRunning) continue;
      const type = schedule.ready.has(node.id) ? 'started' : 'joined';
      ({ schedule } = advance(schedule, { type, id: node.id }));
    }
    return { schedule, nodes: new Map(planned.map(({ node }) => [node.id, node])) };
  }

  const taken = (atATime: { cpu?: number; gpu?: number }, ...lines: string[]): string[] => {
    const { schedule, nodes } = graph(...lines);
    const places = new Places({ atATime }, schedule, nodes);
    const all = (): boolean => true;
    return takeTogether(schedule, 10, all, (id, before) => places.take(id, before));
  };

  it('are taken over by what follows, one after the other', () => {
    expect(taken({ cpu: 1 }, 'a', 'b: a', 'c: b', 'd')).toEqual(['a', 'b', 'c']);
    expect(taken({ cpu: 2 }, 'a', 'b: a', 'c', 'd: c', 'e')).toEqual(['a', 'b', 'c', 'd']);
  });

  it('are taken over by one of several, which starts when its only input is there', () => {
    expect(taken({ cpu: 3 }, 'a', 'b: a', 'c: a')).toHaveLength(2);
    expect(taken({ cpu: 2 }, 'a', 'b', 'c: a b')).toEqual(['a', 'b']);
  });

  it('are those of what a step runs on, and without a limit as many as one likes', () => {
    expect(taken({ gpu: 1 }, 'a@gpu', 'b@gpu: a', 'c@gpu', 'd', 'e: d')).toEqual(['a', 'b', 'd', 'e']);
    expect(taken({ cpu: 1, gpu: 1 }, 'a', 'b@gpu: a', 'c@gpu')).toEqual(['a', 'c']);
    expect(taken({ gpu: 1 }, 'a', 'b@gpu: a')).toEqual(['a']);
    expect(taken({}, 'a', 'b', 'c: a b')).toHaveLength(3);
  });

  it('are what running steps leave, of which those that follow others count with them', () => {
    expect(taken({ cpu: 2 }, '+a', '+b: a', '+c: b', 'd', 'e')).toEqual(['d']);
    expect(taken({ cpu: 2 }, '+a', '+b', 'c')).toEqual([]);
    // Given to a child by rules that counted each by itself.
    expect(taken({ cpu: 3 }, '+a', '+b: a', '+c: a', 'd', 'e')).toEqual(['d']);
  });

  it('are sought among all that is ready', () => {
    const many = Array.from({ length: 50 }, (_, place) => `card${place}@gpu`);
    expect(taken({ cpu: 1, gpu: 2 }, ...many, 'a')).toEqual(['card0', 'card1', 'a']);
  });

  it('are counted one by one in runs of before', () => {
    const { schedule, nodes } = graph('+a', '+b: a', 'c', 'd: c', 'e');
    const ids = takeTogether(schedule, 10, () => true);
    expect(withOwnPlaces(ids, { atATime: { cpu: 4 } }, schedule, nodes)).toEqual(['c', 'd']);
    expect(withOwnPlaces(ids, { atATime: { cpu: 3 } }, schedule, nodes)).toEqual(['c']);
  });
});

describe('a run with limits', () => {
  const { world, work } = cheapWorldOfTests();

  it('goes on in a chain without word to the run, one chain after the other', async () => {
    let running = 0;
    let most = 0;
    await work(async () => {
      most = Math.max(most, (running += 1));
      await Promise.resolve();
      running -= 1;
    });
    const { run, result } = await world().start(madeUpPlan('in-turn', layers(4)), {}, { limits: { cpu: 1 } });
    expect(await result).toMatchObject({ status: 'completed', completed: 12 });
    expect(most).toBe(1);
    const { events } = await world().client.workflow.getHandle(run.workflowId).fetchHistory();
    const children = events!.filter((event) => event.startChildWorkflowExecutionInitiatedEventAttributes);
    expect(children).toHaveLength(4);
  });

  it('fills all of its places, and again as soon as one is left', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => gate.wait(nodeId));
    const { run, result } = await world().start(madeUpPlan('filled', layers(3)), {}, { limits: { cpu: 2 } });
    await until('two chains have begun', () => gate.started.size === 2);
    const [first] = [...gate.started];
    expect([...gate.started].sort()).toEqual(['generator[seed=0]', 'generator[seed=1]']);
    const seed = first!.slice('generator'.length);
    gate.pass(`generator${seed}`, `synthetic${seed}`, `classifier${seed}`);
    // The other chain of the same child goes on meanwhile.
    await until('the third has begun', () => gate.started.has('generator[seed=2]'));
    expect(gate.started.size).toBe(5);
    gate.pass(...layers(3).map(({ id }) => id));
    expect(await result).toMatchObject({ status: 'completed', completed: 9 });
    const { events } = await world().client.workflow.getHandle(`${run.workflowId}/batch.1`).fetchHistory();
    const waits = events!.flatMap(({ timerStartedEventAttributes: timer }) =>
      timer ? [Number(timer.startToFireTimeout!.seconds) * 1000 + Number(timer.startToFireTimeout!.nanos) / 1e6] : [],
    );
    // All but the long wait between looks after the run.
    expect(waits.filter((wait) => wait < 60_000).every((wait) => wait <= 50)).toBe(true);
    expect(waits.some((wait) => wait <= 50)).toBe(true);
  });

  it('finds what it has places for behind any number of steps that wait', async () => {
    await work(() => Promise.resolve());
    const cards = Array.from({ length: 8 }, (_, place): MadeUpNode => ({ id: `card[place=${place}]`, device: 'gpu' }));
    const plan = madeUpPlan('behind', [...cards, { id: 'late' }]);
    const { run, result, events } = await world().start(plan, { batch: 4 }, { limits: { cpu: 1, gpu: 1 } });
    await until('the last ran', () => idsOf(events(), 'node-completed').includes('late'));
    // Nobody serves the queue of cards.
    await world().client.workflow.getHandle(run.workflowId).cancel();
    await expect(result).rejects.toThrow();
  });
});
