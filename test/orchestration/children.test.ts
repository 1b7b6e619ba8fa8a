import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import type { ControlActivities, ExperimentStatus, StepReport } from '../../activities/contract.ts';
import type { KnownHead } from '../../privacy/ledger/index.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Plan } from '../../schemas/plan.ts';
import { madeUpPlan } from './cheap-experiment.ts';
import { chainOf, cheapWorldOfTests, Gate, idsOf, layers, until } from './cheap-world-of-tests.ts';

const { world, work } = cheapWorldOfTests();

/** A ledger that grants everything. */
function grantingLedger(plan: Plan): Partial<ControlActivities> {
  const head = { ledger: 'made up', sequence: 1, hash: 'made up' };
  const grant = (): Promise<KnownHead> => Promise.resolve(head);
  const keys = new Map(plan.nodes.map(({ id, key }) => [id, key]));
  return {
    reservePlan: grant,
    releaseBudget: grant,
    openPrivateStep: grant,
    commitPrivateStep: grant,
    closePrivateStep: () => Promise.resolve(),
    readReceipts: ({ workflowId }, ids) =>
      Promise.resolve(
        ids.map((id) => {
          const nodeKey = keys.get(id)!;
          return { entryId: nodeKey, workflowId, dataset: 'weather', nodeKey, mechanismDigest: 'made up' };
        }),
      ),
  };
}

/** How many children each workflow task of a run started. */
async function startedTogether(workflowId: string): Promise<number[]> {
  const { events } = await world().client.workflow.getHandle(workflowId).fetchHistory();
  const counts = new Map<string, number>();
  for (const { startChildWorkflowExecutionInitiatedEventAttributes: started } of events!) {
    if (!started) continue;
    const task = String(started.workflowTaskCompletedEventId);
    counts.set(task, (counts.get(task) ?? 0) + 1);
  }
  return [...counts.values()];
}

describe('the children of a run', () => {
  it('start in groups that one answer to Temporal has room for', async () => {
    const nodes = Array.from({ length: 11 }, (_, seed) => ({ id: `generator[seed=${seed}]`, paidBy: 'weather' }));
    const plan = madeUpPlan('groups', nodes);
    await work(() => Promise.resolve(), 20, grantingLedger(plan));
    const { run, result } = await world().start(plan, { paidTogether: 4 });
    expect(await result).toMatchObject({ status: 'completed', completed: 11 });
    expect(await startedTogether(run.workflowId)).toEqual([4, 4, 3]);
  });

  it('try a step again only where its error says so', async () => {
    await work(({ nodeId }) => {
      if (nodeId === 'hopeless') throw new EpsilonflowError('DATA_CHANGED', 'as told');
      if (Context.current().info.attempt === 1) throw new EpsilonflowError('DISK_FULL', 'as told');
      return Promise.resolve();
    });
    const plan = madeUpPlan(
      'again',
      ['hopeless', 'unlucky'].map((id) => ({ id })),
    );
    const { result, events } = await world().start(plan);
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(idsOf(events(), 'node-started')).toEqual(['hopeless', 'unlucky', 'unlucky']);
    expect(idsOf(events(), 'node-failed')).toEqual(['hopeless']);
    expect(idsOf(events(), 'node-completed')).toEqual(['unlucky']);
  });

  it('start nothing after a node that failed, and tell why', async () => {
    await work(({ nodeId }) => {
      if (nodeId !== 'synthetic[seed=1]') return Promise.resolve();
      throw ApplicationFailure.create({ type: 'STEP_FAILED', message: 'as told', nonRetryable: true });
    });
    const nodes = [...layers(3), { id: 'last', needs: ['classifier[seed=1]'] }];
    const { result, events } = await world().start(madeUpPlan('partly', nodes));
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(idsOf(events(), 'node-completed')).toHaveLength(7);
    expect(events().flatMap((event) => (event.type === 'node-skipped' ? [[event.node, event.because]] : []))).toEqual([
      ['classifier[seed=1]', 'synthetic[seed=1]'],
      ['last', 'synthetic[seed=1]'],
    ]);
  });

  it.each([
    ['by the run that started them', 100_000],
    ['by a later run', 40],
  ])('are missed when they were terminated, %s', async (_by, limit) => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId.startsWith('held') ? gate.wait(nodeId) : Promise.resolve()));
    const nodes = [{ id: 'held' }, ...layers(6), { id: 'after', needs: ['held'] }];
    const name = `missed-${limit}`;
    const { run, result, events } = await world().start(madeUpPlan(name, nodes), {
      events: limit,
      batch: 1,
      lookEvery: 1000,
    });
    await until('all others ran', () => idsOf(events(), 'node-completed').length === 18);
    if (limit < 100) await until('it has continued', async () => (await chainOf(world(), run.workflowId)).length > 1);
    await world().client.workflow.getHandle(`${run.workflowId}/batch.1`).terminate('by hand');
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(events()).toContainEqual(
      expect.objectContaining({
        type: 'node-failed',
        node: 'held',
        code: 'JOB_CRASHED',
        message: `The workflow ${run.workflowId}/batch.1 ended without a result: was it terminated?`,
      }),
    );
    expect(events()).toContainEqual(expect.objectContaining({ type: 'node-skipped', node: 'after', because: 'held' }));
  });

  it('go on in a new history when theirs has grown long, with each result told once', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId.startsWith('held') ? gate.wait(nodeId) : sleep(100)), 2);
    const nodes = [...layers(10), { id: 'held', needs: ['classifier[seed=9]'] }, { id: 'last', needs: ['held'] }];
    const { run, result, events } = await world().start(madeUpPlan('long', nodes), { batchEvents: 60 });
    await until('only one is left', () => gate.started.has('held'));
    gate.pass('held');
    expect(await result).toMatchObject({ status: 'completed', completed: nodes.length, failures: [] });
    const runs = await chainOf(world(), `${run.workflowId}/batch.1`);
    expect(runs.length).toBeGreaterThan(1);
    expect(runs).toEqual([...runs.slice(1).map(() => 'CONTINUED_AS_NEW'), 'COMPLETED']);
    expect(idsOf(events(), 'node-completed')).toEqual(nodes.map(({ id }) => id).sort());
    expect(idsOf(events(), 'node-cancelled')).toEqual([]);
  });

  it('go on in a new history in a pause, and stay paused', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => gate.wait(nodeId));
    const held = Array.from({ length: 8 }, (_, seed) => `held[seed=${seed}]`);
    const plan = madeUpPlan(
      'long-pause',
      held.map((id) => ({ id })),
    );
    const { run, result, events } = await world().start(plan, { batchEvents: 40 });
    const handle = world().client.workflow.getHandle(run.workflowId);
    await until('they run', () => gate.started.size === held.length);
    await handle.executeUpdate('setPaused', { args: [true] });
    const child = `${run.workflowId}/batch.1`;
    await until('the batch has continued', async () => (await chainOf(world(), child)).length > 1);
    gate.pass(...held);
    await sleep(1000);
    const { raw } = await world().client.workflow.getHandle(child).describe();
    expect(raw.pendingActivities ?? []).toEqual([]);
    await handle.executeUpdate('setPaused', { args: [false] });
    expect(await result).toMatchObject({ status: 'completed', completed: held.length });
    const attempts = events().flatMap((event) => (event.type === 'node-started' ? [event.node] : []));
    expect(attempts).toHaveLength(2 * held.length);
  });

  it('are cancelled after they have gone on in a new history', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId.startsWith('held') ? gate.wait(nodeId) : sleep(50)), 4);
    const nodes = [...layers(6), { id: 'held', needs: ['classifier[seed=5]'] }];
    const { run, result, events } = await world().start(madeUpPlan('long-cancel', nodes), { batchEvents: 40 });
    await until('only one is left', () => gate.started.has('held'));
    expect((await chainOf(world(), `${run.workflowId}/batch.1`)).length).toBeGreaterThan(1);
    await world().client.workflow.getHandle(run.workflowId).cancel();
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(idsOf(events(), 'node-cancelled')).toEqual(['held']);
  });

  it('are not missed before they have started', async () => {
    await work(() => Promise.resolve());
    const plan = madeUpPlan('starting', layers(12));
    const { result } = await world().start(plan, { batch: 1, lookEvery: 1 });
    expect(await result).toMatchObject({ status: 'completed', completed: plan.nodes.length, failures: [] });
  });

  it('are heard once, whatever is told twice, of others, or by strangers', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => gate.wait(nodeId));
    const { run, result } = await world().start(madeUpPlan('twice', [{ id: 'one' }, { id: 'two' }]), { batch: 1 });
    const handle = world().client.workflow.getHandle(run.workflowId);
    await until('both run', () => gate.started.size === 2);
    const report = (child: string, node: string): StepReport => ({
      child,
      ends: [{ end: 'completed', node }],
      ledgerHead: null,
    });
    await handle.signal('stepsEnded', report('batch.1', 'two'));
    await handle.signal('stepsEnded', report('batch.7', 'one'));
    gate.pass('one');
    const completed = async (): Promise<number> => (await handle.query<ExperimentStatus>('status')).completed;
    await until('one has ended', async () => (await completed()) === 1);
    await handle.signal('stepsEnded', report('batch.1', 'one'));
    await handle.signal('stepsEnded', report('batch.1', 'one'));
    expect(await completed()).toBe(1);
    gate.pass('two');
    expect(await result).toMatchObject({ completed: 2 });
  });

  it('stop when their experiment was terminated: at their next report, or when they look', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => gate.wait(nodeId));
    const nodes = ['one', 'two', 'three'].map((id) => ({ id }));
    const child = (workflowId: string) => world().client.workflow.getHandle(`${workflowId}/batch.1`);
    const told = await world().start(madeUpPlan('told', nodes));
    await until('they run', () => gate.started.size === 3);
    await world().client.workflow.getHandle(told.run.workflowId).terminate('by hand');
    gate.pass('one');
    await child(told.run.workflowId).result();

    gate.started.clear();
    const silent = await world().start(
      madeUpPlan(
        'silent',
        ['four', 'five'].map((id) => ({ id })),
      ),
      { lookEvery: 200 },
    );
    await until('they run', () => gate.started.size === 2);
    await world().client.workflow.getHandle(silent.run.workflowId).terminate('by hand');
    await child(silent.run.workflowId).result();
    expect(idsOf([...told.events(), ...silent.events()], 'node-completed')).toEqual(['one']);
  });
});
