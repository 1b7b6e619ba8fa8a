import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { describe, expect, it, vi } from 'vitest';
import type { ExperimentStatus } from '../../activities/contract.ts';
import { attributesOfRun } from '../../cli/search-attributes.ts';
import { searchAttributes } from '../../workflows/search-attributes.ts';
import { madeUpPlan, type CheapWorld, type MadeUpNode } from './cheap-experiment.ts';
import { cheapWorldOfTests } from './cheap-world-of-tests.ts';

const { world, work } = cheapWorldOfTests();

const wide = (name: string, width: number, kind: MadeUpNode['kind'] = 'generate'): MadeUpNode[] =>
  Array.from({ length: width }, (_, place) => ({ id: `${name}[place=${place}]`, kind }));

/** Steps of a run that Temporal has, waiting for a worker or given to one. */
async function pending(workflowId: string): Promise<number> {
  const { workflow } = world().client;
  const { children } = await workflow.getHandle(workflowId).query<ExperimentStatus>('status');
  const described = await Promise.all(children.map((id) => workflow.getHandle(id).describe()));
  return described.flatMap(({ raw }) => raw.pendingActivities ?? []).length;
}

const untilPending = (workflowId: string, count: number): Promise<unknown> =>
  vi.waitUntil(async () => (await pending(workflowId)) === count, { timeout: 200_000, interval: 100 });

/** With one step at a time, in which order steps start: of `first`, and of `second` once all of the first wait. */
async function orderOf(
  first: Parameters<CheapWorld['start']>,
  second: Parameters<CheapWorld['start']>,
): Promise<string[]> {
  const order: string[] = [];
  let isOpen = false;
  await work(async ({ run }) => {
    order.push(run.name);
    for (; !isOpen; await sleep(20)) Context.current().heartbeat();
  }, 1);
  const one = await world().start(...first);
  await untilPending(one.run.workflowId, first[0].nodes.length);
  const other = await world().start(...second);
  await untilPending(other.run.workflowId, second[0].nodes.length);
  isOpen = true;
  await Promise.all([one.result, other.result]);
  return order;
}

describe('experiments that wait for the same workers', () => {
  it('go first by priority, whatever was queued before', async () => {
    const order = await orderOf(
      [madeUpPlan('usual', wide('patient', 8))],
      [madeUpPlan('urgent', wide('hurried', 4)), {}, { priority: 1 }],
    );
    expect(order.slice(0, 5)).toEqual(['usual', 'urgent', 'urgent', 'urgent', 'urgent']);
    expect(order).toHaveLength(12);
  });

  it('take turns under one priority', async () => {
    const order = await orderOf([madeUpPlan('early', wide('one', 10))], [madeUpPlan('late', wide('other', 4))]);
    // In the order of arrival all of the late would be among the last four.
    expect(order.slice(0, 10).filter((name) => name === 'late').length).toBeGreaterThan(2);
    expect(order).toHaveLength(14);
  });
});

describe('limits of a run', () => {
  it('hold over all of its children and when it continues as new, and not for light work', async () => {
    let most = 0;
    let running = 0;
    await work(async ({ nodeId }) => {
      if (nodeId.startsWith('light')) return;
      most = Math.max(most, (running += 1));
      await sleep(100);
      running -= 1;
    });
    const nodes = [
      ...wide('heavy', 8),
      { id: 'follower', needs: ['heavy[place=0]'] },
      ...wide('light', 3, 'compare').map((node) => ({ ...node, needs: ['heavy[place=7]'] })),
    ];
    const { run, result } = await world().start(madeUpPlan('bounded', nodes), { events: 20 }, { limits: { cpu: 2 } });
    expect(await result).toMatchObject({ status: 'completed', completed: 12 });
    expect(most).toBe(2);
    const { raw } = await world().client.workflow.getHandle(run.workflowId).describe();
    expect(raw.workflowExecutionInfo!.firstRunId).not.toBe(raw.workflowExecutionInfo!.execution!.runId);
  });
});

describe('search attributes', () => {
  const found = async (query: string): Promise<string[]> => {
    const ids: string[] = [];
    for await (const { workflowId } of world().client.workflow.list({ query })) ids.push(workflowId);
    return ids.sort();
  };

  it('find a run and its children, also after it has continued as new', async () => {
    await work(() => Promise.resolve());
    const plan = madeUpPlan('findable', [{ id: 'a[seed=1]' }, { id: 'b[seed=1]', needs: ['a[seed=1]'] }]);
    const { run, result } = await world().start(plan, { events: 20, batch: 1 }, { priority: 2 });
    await result;
    const { experiment, plan: digest, step } = searchAttributes;
    const query = `${experiment.name} = 'findable' AND ${step.name} = 'b' AND ${digest.name} = '${plan.digest}'`;
    // Temporal lists what it knows after a moment.
    await vi.waitUntil(async () => (await found(`${query} AND ExecutionStatus = 'Completed'`)).length === 2, {
      timeout: 30_000,
    });
    const { priority, typedSearchAttributes } = await world().client.workflow.getHandle(run.workflowId).describe();
    expect(priority).toMatchObject({ priorityKey: 2, fairnessKey: 'findable' });
    expect(typedSearchAttributes.get(step)).toEqual(['a', 'b']);
  });

  it('are left out on a server that does not know them', async () => {
    const { connection } = world().client;
    const names = Object.values(searchAttributes).map(({ name }) => name);
    await connection.operatorService.removeSearchAttributes({ searchAttributes: names, namespace: 'default' });
    const plan = madeUpPlan('unsearched', wide('step', 2));
    await vi.waitUntil(async () => (await attributesOfRun(world().client, plan)).length === 0, { timeout: 60_000 });
    await work(() => Promise.resolve());
    expect(await (await world().start(plan)).result).toMatchObject({ status: 'completed', completed: 2 });
  });
});
