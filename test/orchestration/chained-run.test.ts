import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import type { ExperimentStatus } from '../../activities/contract.ts';
import { madeUpPlan, type MadeUpNode } from './cheap-experiment.ts';
import { chainOf, cheapWorldOfTests, Gate, idsOf, layers, until } from './cheap-world-of-tests.ts';

const { world, work } = cheapWorldOfTests();

describe('a run that continues as new', () => {
  it('runs every node once and none before its inputs, with steps in flight at each turn', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId === 'long' ? gate.wait(nodeId) : sleep(100)), 3);
    const nodes = [{ id: 'long' }, ...layers(12), { id: 'last', needs: ['long'] }];
    const { run, result, events } = await world().start(madeUpPlan('turns', nodes), { events: 10, batch: 2 });
    const handle = world().client.workflow.getHandle(run.workflowId);
    let status: ExperimentStatus | null = null;
    await until('all but the long one ran', async () => {
      status = await handle.query<ExperimentStatus>('status');
      // A run that has just continued has not read again which nodes wait for others of their child.
      return status.completed === nodes.length - 2 && status.running.length === 1;
    });
    expect(status).toMatchObject({ phase: 'running', running: ['long'], waiting: 1, failed: 0 });
    gate.pass('long');
    expect(await result).toMatchObject({ status: 'completed', completed: nodes.length, reused: 0, failures: [] });

    const runs = await chainOf(world(), run.workflowId);
    expect(runs.length).toBeGreaterThan(3);
    expect(runs).toEqual([...runs.slice(1).map(() => 'CONTINUED_AS_NEW'), 'COMPLETED']);
    const log = events();
    const all = nodes.map(({ id }) => id).sort();
    expect(idsOf(log, 'node-started')).toEqual(all);
    expect(idsOf(log, 'node-completed')).toEqual(all);
    const place = (type: string, node: string): number =>
      log.findIndex((event) => event.type === type && 'node' in event && event.node === node);
    for (const { id, needs = [] } of nodes as MadeUpNode[]) {
      for (const need of needs) expect(place('node-completed', need)).toBeLessThan(place('node-started', id));
    }
    expect(log.filter(({ type }) => type === 'run-started' || type === 'run-completed')).toHaveLength(2);
  });

  it('stays paused, and lets its children go on when it is resumed', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId.startsWith('held') ? gate.wait(nodeId) : Promise.resolve()));
    const held = ['held[seed=1]', 'held[seed=2]'];
    const nodes = [...held.map((id) => ({ id })), ...layers(3), { id: 'last', needs: [held[0]!] }];
    const limits = { events: 30, batch: 4, lookEvery: 200 };
    const { run, result, events } = await world().start(madeUpPlan('rests', nodes), limits);
    const handle = world().client.workflow.getHandle(run.workflowId);
    const setPaused = (paused: boolean): Promise<boolean> => handle.executeUpdate('setPaused', { args: [paused] });
    await until('all others ran', () => idsOf(events(), 'node-completed').length === 9);
    await until('they run', () => gate.started.size === 2);
    expect(await setPaused(true)).toBe(true);
    expect(await setPaused(true)).toBe(false);
    const turns = (await chainOf(world(), run.workflowId)).length;
    await until('it has continued', async () => (await chainOf(world(), run.workflowId)).length > turns + 1);
    gate.pass(...held);
    expect(await handle.query<ExperimentStatus>('status')).toMatchObject({ phase: 'paused', completed: 9 });
    // The child goes on looking after its experiment.
    const { raw } = await world().client.workflow.getHandle(`${run.workflowId}/batch.1`).describe();
    expect(raw.pendingActivities!.map(({ activityType }) => activityType!.name)).not.toContain('generate');
    expect(idsOf(events(), 'node-completed')).toHaveLength(9);

    expect(await setPaused(false)).toBe(true);
    expect(await result).toMatchObject({ status: 'completed', completed: nodes.length });
    expect(idsOf(events(), 'node-cancelled')).toEqual([]);
    expect(idsOf(events(), 'node-started').filter((id) => held.includes(id))).toEqual([...held, ...held].sort());
  });

  it('ends by cancel while it is paused', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => gate.wait(nodeId));
    const { run, result, events } = await world().start(madeUpPlan('gives-up', [{ id: 'one' }]));
    const handle = world().client.workflow.getHandle(run.workflowId);
    await until('it runs', () => gate.started.size === 1);
    await handle.executeUpdate('setPaused', { args: [true] });
    await handle.cancel();
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(idsOf(events(), 'node-cancelled')).toEqual(['one']);
  });

  it('is cancelled with all that earlier runs of it started', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId.startsWith('held') ? gate.wait(nodeId) : Promise.resolve()));
    const nodes = [
      { id: 'held[seed=1]' },
      { id: 'held[seed=2]' },
      ...layers(6),
      { id: 'last', needs: ['held[seed=1]'] },
    ];
    const { run, result, events } = await world().start(madeUpPlan('ends', nodes), { events: 40, batch: 4 });
    const handle = world().client.workflow.getHandle(run.workflowId);
    await until('all others ran', () => idsOf(events(), 'node-completed').length === 18);
    await until('it has continued', async () => (await chainOf(world(), run.workflowId)).length > 1);
    await handle.cancel();
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    expect(idsOf(events(), 'node-cancelled')).toEqual(['held[seed=1]', 'held[seed=2]']);
    expect(events()).toContainEqual(
      expect.objectContaining({ type: 'node-skipped', node: 'last', because: 'the run was cancelled' }),
    );
  });

  it('stops what earlier runs started when a node fails under fail-fast', async () => {
    const gate = new Gate();
    await work(async ({ nodeId }) => {
      if (nodeId === 'held') return gate.wait(nodeId);
      if (nodeId !== 'breaks') return;
      throw ApplicationFailure.create({ type: 'STEP_FAILED', message: 'as told', nonRetryable: true });
    });
    const nodes = [{ id: 'held' }, ...layers(6), { id: 'breaks', needs: ['classifier[seed=5]'] }];
    const plan = madeUpPlan('strict', nodes, 'fail-fast');
    const { run, result, events } = await world().start(plan, { events: 40, batch: 2 });
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect((await chainOf(world(), run.workflowId)).length).toBeGreaterThan(1);
    expect(idsOf(events(), 'node-cancelled')).toEqual(['held']);
    expect(events()).toContainEqual(
      expect.objectContaining({ type: 'node-failed', node: 'breaks', code: 'STEP_FAILED', message: 'as told' }),
    );
  });
});
