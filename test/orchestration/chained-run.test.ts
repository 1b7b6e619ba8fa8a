import { setTimeout as sleep } from 'node:timers/promises';
import { CancelledFailure, Context } from '@temporalio/activity';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ControlActivities, ExperimentStatus, StepReport } from '../../activities/contract.ts';
import type { KnownHead } from '../../privacy/ledger/index.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import type { Plan } from '../../schemas/plan.ts';
import type { RunEvent } from '../../tracking/events.ts';
import { madeUpPlan, openCheapWorld, type CheapWorld, type MadeUpNode } from './cheap-experiment.ts';

// Seconds each, and minutes on a machine that does other things.
vi.setConfig({ testTimeout: 240_000 });

let world: CheapWorld;
let stopWorkers = (): Promise<void> => Promise.resolve();

beforeAll(async () => {
  world = await openCheapWorld();
});
afterEach(() => stopWorkers());
afterAll(() => world?.close());

async function work(...settings: Parameters<CheapWorld['work']>): Promise<void> {
  stopWorkers = (await world.work(...settings)).stop;
}

/** Steps that end when the test says so, or when they are cancelled. */
class Gate {
  private open = new Set<string>();
  readonly started = new Set<string>();

  pass(...ids: string[]): void {
    for (const id of ids) this.open.add(id);
  }

  async wait(id: string): Promise<void> {
    this.started.add(id);
    const { cancellationSignal } = Context.current();
    for (; !this.open.has(id); await sleep(20)) {
      Context.current().heartbeat();
      if (cancellationSignal.aborted) throw new CancelledFailure('asked to');
    }
  }
}

async function until(what: string, look: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 200_000; !(await look()); await sleep(50)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
  }
}

/** How the executions of a workflow id ended, one after the other. */
async function chain(workflowId: string): Promise<string[]> {
  const { workflow } = world.client;
  const { events } = await workflow.getHandle(workflowId).fetchHistory();
  const runs: string[] = [];
  let runId = events![0]!.workflowExecutionStartedEventAttributes!.firstExecutionRunId;
  while (runId) {
    const run = workflow.getHandle(workflowId, runId);
    runs.push((await run.describe()).status.name);
    const last = (await run.fetchHistory()).events!.at(-1)!;
    runId = last.workflowExecutionContinuedAsNewEventAttributes?.newExecutionRunId;
  }
  return runs;
}

type NodeEvent = Extract<RunEvent, { node: string }>;

const idsOf = (events: RunEvent[], type: NodeEvent['type']): string[] =>
  events.flatMap((event) => (event.type === type ? [event.node] : [])).sort();

const layers = (width: number): MadeUpNode[] =>
  Array.from({ length: width }, (_, seed) => [
    { id: `generator[seed=${seed}]` },
    { id: `synthetic[seed=${seed}]`, needs: [`generator[seed=${seed}]`] },
    { id: `classifier[seed=${seed}]`, needs: [`synthetic[seed=${seed}]`] },
  ]).flat();

describe('a run that continues as new', () => {
  it('runs every node once and none before its inputs, with steps in flight at each turn', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => (nodeId === 'long' ? gate.wait(nodeId) : sleep(100)), 3);
    const nodes = [{ id: 'long' }, ...layers(12), { id: 'last', needs: ['long'] }];
    const { run, result, events } = await world.start(madeUpPlan('turns', nodes), { events: 10, batch: 2 });
    const handle = world.client.workflow.getHandle(run.workflowId);
    let status: ExperimentStatus | null = null;
    await until('all but the long one ran', async () => {
      status = await handle.query<ExperimentStatus>('status');
      // A run that has just continued has not read again which nodes wait for others of their child.
      return status.completed === nodes.length - 2 && status.running.length === 1;
    });
    expect(status).toMatchObject({ phase: 'running', running: ['long'], waiting: 1, failed: 0 });
    gate.pass('long');
    expect(await result).toMatchObject({ status: 'completed', completed: nodes.length, reused: 0, failures: [] });

    const runs = await chain(run.workflowId);
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
    const { run, result, events } = await world.start(madeUpPlan('rests', nodes), limits);
    const handle = world.client.workflow.getHandle(run.workflowId);
    const setPaused = (paused: boolean): Promise<boolean> => handle.executeUpdate('setPaused', { args: [paused] });
    await until('all others ran', () => idsOf(events(), 'node-completed').length === 9);
    await until('they run', () => gate.started.size === 2);
    expect(await setPaused(true)).toBe(true);
    expect(await setPaused(true)).toBe(false);
    const turns = (await chain(run.workflowId)).length;
    await until('it has continued', async () => (await chain(run.workflowId)).length > turns + 1);
    gate.pass(...held);
    expect(await handle.query<ExperimentStatus>('status')).toMatchObject({ phase: 'paused', completed: 9 });
    // The child goes on looking after its experiment.
    const { raw } = await world.client.workflow.getHandle(`${run.workflowId}/batch.1`).describe();
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
    const { run, result, events } = await world.start(madeUpPlan('gives-up', [{ id: 'one' }]));
    const handle = world.client.workflow.getHandle(run.workflowId);
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
    const { run, result, events } = await world.start(madeUpPlan('ends', nodes), { events: 40, batch: 4 });
    const handle = world.client.workflow.getHandle(run.workflowId);
    await until('all others ran', () => idsOf(events(), 'node-completed').length === 18);
    await until('it has continued', async () => (await chain(run.workflowId)).length > 1);
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
    const { run, result, events } = await world.start(plan, { events: 40, batch: 2 });
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect((await chain(run.workflowId)).length).toBeGreaterThan(1);
    expect(idsOf(events(), 'node-cancelled')).toEqual(['held']);
    expect(events()).toContainEqual(
      expect.objectContaining({ type: 'node-failed', node: 'breaks', code: 'STEP_FAILED', message: 'as told' }),
    );
  });
});

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
  const { events } = await world.client.workflow.getHandle(workflowId).fetchHistory();
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
    const { run, result } = await world.start(plan, { paidTogether: 4 });
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
    const { result, events } = await world.start(plan);
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
    const { result, events } = await world.start(madeUpPlan('partly', nodes));
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
    const { run, result, events } = await world.start(madeUpPlan(name, nodes), {
      events: limit,
      batch: 1,
      lookEvery: 1000,
    });
    await until('all others ran', () => idsOf(events(), 'node-completed').length === 18);
    if (limit < 100) await until('it has continued', async () => (await chain(run.workflowId)).length > 1);
    await world.client.workflow.getHandle(`${run.workflowId}/batch.1`).terminate('by hand');
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
    const { run, result, events } = await world.start(madeUpPlan('long', nodes), { batchEvents: 60 });
    await until('only one is left', () => gate.started.has('held'));
    gate.pass('held');
    expect(await result).toMatchObject({ status: 'completed', completed: nodes.length, failures: [] });
    const runs = await chain(`${run.workflowId}/batch.1`);
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
    const { run, result, events } = await world.start(plan, { batchEvents: 40 });
    const handle = world.client.workflow.getHandle(run.workflowId);
    await until('they run', () => gate.started.size === held.length);
    await handle.executeUpdate('setPaused', { args: [true] });
    const child = `${run.workflowId}/batch.1`;
    await until('the batch has continued', async () => (await chain(child)).length > 1);
    gate.pass(...held);
    await sleep(1000);
    const { raw } = await world.client.workflow.getHandle(child).describe();
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
    const { run, result, events } = await world.start(madeUpPlan('long-cancel', nodes), { batchEvents: 40 });
    await until('only one is left', () => gate.started.has('held'));
    expect((await chain(`${run.workflowId}/batch.1`)).length).toBeGreaterThan(1);
    await world.client.workflow.getHandle(run.workflowId).cancel();
    await expect(result).rejects.toBeInstanceOf(WorkflowFailedError);
    expect(idsOf(events(), 'node-cancelled')).toEqual(['held']);
  });

  it('are not missed before they have started', async () => {
    await work(() => Promise.resolve());
    const plan = madeUpPlan('starting', layers(12));
    const { result } = await world.start(plan, { batch: 1, lookEvery: 1 });
    expect(await result).toMatchObject({ status: 'completed', completed: plan.nodes.length, failures: [] });
  });

  it('are heard once, whatever is told twice, of others, or by strangers', async () => {
    const gate = new Gate();
    await work(({ nodeId }) => gate.wait(nodeId));
    const { run, result } = await world.start(madeUpPlan('twice', [{ id: 'one' }, { id: 'two' }]), { batch: 1 });
    const handle = world.client.workflow.getHandle(run.workflowId);
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
    const child = (workflowId: string) => world.client.workflow.getHandle(`${workflowId}/batch.1`);
    const told = await world.start(madeUpPlan('told', nodes));
    await until('they run', () => gate.started.size === 3);
    await world.client.workflow.getHandle(told.run.workflowId).terminate('by hand');
    gate.pass('one');
    await child(told.run.workflowId).result();

    gate.started.clear();
    const silent = await world.start(
      madeUpPlan(
        'silent',
        ['four', 'five'].map((id) => ({ id })),
      ),
      { lookEvery: 200 },
    );
    await until('they run', () => gate.started.size === 2);
    await world.client.workflow.getHandle(silent.run.workflowId).terminate('by hand');
    await child(silent.run.workflowId).result();
    expect(idsOf([...told.events(), ...silent.events()], 'node-completed')).toEqual(['one']);
  });
});
