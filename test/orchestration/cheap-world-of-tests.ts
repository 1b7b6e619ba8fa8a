/** @file What tests of cheap experiments share: one world a file, steps that a test lets end, and what a run has left. */

import { setTimeout as sleep } from 'node:timers/promises';
import { CancelledFailure, Context } from '@temporalio/activity';
import { afterAll, afterEach, beforeAll, vi } from 'vitest';
import type { RunEvent } from '../../tracking/events.ts';
import { openCheapWorld, type CheapWorld, type MadeUpNode } from './cheap-experiment.ts';

interface CheapWorldOfTests {
  world(): CheapWorld;
  /** Workers until the end of the test. */
  work(...settings: Parameters<CheapWorld['work']>): Promise<void>;
}

/** Opens a world before the tests of a file; each test starts the workers that it wants. */
export function cheapWorldOfTests(): CheapWorldOfTests {
  // Seconds each, and minutes on a machine that does other things.
  vi.setConfig({ testTimeout: 240_000 });
  let world: CheapWorld;
  const stops: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    world = await openCheapWorld();
  });
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });
  afterAll(() => world?.close());
  return {
    world: () => world,
    work: async (...settings) => {
      stops.push((await world.work(...settings)).stop);
    },
  };
}

/** Steps that end when the test says so, or when they are cancelled. */
export class Gate {
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

export async function until(what: string, look: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 200_000; !(await look()); await sleep(50)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
  }
}

/** How the executions of a workflow id ended, one after the other. */
export async function chainOf({ client: { workflow } }: CheapWorld, workflowId: string): Promise<string[]> {
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

export const idsOf = (events: RunEvent[], type: NodeEvent['type']): string[] =>
  events.flatMap((event) => (event.type === type ? [event.node] : [])).sort();

/** So many chains of three steps. */
export const layers = (width: number): MadeUpNode[] =>
  Array.from({ length: width }, (_, seed) => [
    { id: `generator[seed=${seed}]` },
    { id: `synthetic[seed=${seed}]`, needs: [`generator[seed=${seed}]`] },
    { id: `classifier[seed=${seed}]`, needs: [`synthetic[seed=${seed}]`] },
  ]).flat();
