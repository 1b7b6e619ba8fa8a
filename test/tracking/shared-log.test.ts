import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { ObjectStorage } from '../../store/objects.ts';
import { SharedLogs } from '../../store/shared-logs.ts';
import type { Passed } from '../../tracking/door.ts';
import { appendEvents, readEvents, type RunEvent } from '../../tracking/events.ts';
import { summariseRun } from '../../tracking/run-summary.ts';
import { collectEvents, keepForOthers, sendEvents } from '../../tracking/shared-log.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { requires } from '../requires.ts';
import { makeUpRun, ownState, type MadeUpRun } from './made-up-run.ts';

const run = { name: 'made-up', number: 1 };

describe.runIf(requires('object-storage', 'event logs of several hosts'))('the log of a run on several hosts', () => {
  let server: ObjectServer;
  let root: string;
  let objects: ObjectStorage;
  let madeUp: MadeUpRun;
  let environment: NodeJS.ProcessEnv;
  let restore: () => void;

  /** A host's folder of the run, and its way to the others. */
  class Host {
    readonly directory: string;
    readonly logs: SharedLogs;
    constructor(name: string) {
      this.directory = join(root, name, 'run');
      mkdirSync(this.directory, { recursive: true });
      this.logs = new SharedLogs(objects, join(root, name, 'owner'));
    }
    write(...events: RunEvent[]): void {
      appendEvents(this.directory, events as Passed<RunEvent>[]);
      keepForOthers(this.directory, events as Passed<RunEvent>[]);
    }
    send = (): Promise<void> => sendEvents(this.directory, run, this.logs);
    collect = (): Promise<void> => collectEvents(this.directory, run, madeUp.plan, this.logs);
    events = (): RunEvent[] => readEvents(this.directory).events;
  }

  beforeAll(async () => (server = await startObjectServer()));
  afterAll(() => server?.remove());
  beforeEach(async () => {
    environment = { ...process.env };
    restore = ownState();
    madeUp = await makeUpRun({ sensitivity: 'private' });
    root = mkdtempSync(join(tmpdir(), 'shared log '));
    Object.assign(process.env, server.environment, {
      EPSILONFLOW_RUN_SECRET: 'a secret that hosts of this test share',
    });
    objects = new ObjectStorage(`s3://results/test-${Math.random().toString(36).slice(2)}`);
  });
  afterEach(() => {
    restore();
    process.env = environment;
    rmSync(root, { recursive: true, force: true });
  });

  const started = (node: string, attempt = 1): RunEvent => ({ type: 'node-started', time: 10, node, attempt });
  const nodeOf = (kind: string): string => madeUp.plan.nodes.find((node) => node.kind === kind)!.id;

  it('is whole on each, and holds each event once', async () => {
    const [here, there] = [new Host('here'), new Host('there')];
    const node = nodeOf('finetune');
    there.write(started(node));
    await there.send();
    here.write({ type: 'run-paused', time: 11 });
    await here.send();
    await Promise.all([here.collect(), here.collect(), there.collect()]);
    there.write({ type: 'node-cancelled', time: 12, node });
    await there.send();
    await there.send();
    for (const host of [here, there]) {
      await host.collect();
      await host.collect();
    }
    expect(here.events().map(({ type }) => type)).toEqual(['run-paused', 'node-started', 'node-cancelled']);
    expect(there.events().map(({ type }) => type)).toEqual(['node-started', 'run-paused', 'node-cancelled']);
  });

  it('is taken at a cost that does not grow with what was taken', async () => {
    const [here, there, third] = [new Host('here'), new Host('there'), new Host('third')];
    const [node, other] = [nodeOf('finetune'), nodeOf('generate')];
    third.write(started(other));
    await third.send();
    /** Requests of a look, and names that they brought. */
    const look = async (): Promise<{ listings: number; names: number; reads: number }> => {
      const [list, get] = [vi.spyOn(objects, 'list'), vi.spyOn(objects, 'get')];
      const folders = vi.spyOn(objects, 'folders');
      try {
        await here.collect();
        const found = await Promise.all([list, folders].flatMap(({ mock }) => mock.results.map(({ value }) => value)));
        return { listings: found.length, names: (found as unknown[][]).flat().length, reads: get.mock.calls.length };
      } finally {
        for (const spy of [list, get, folders]) spy.mockRestore();
      }
    };
    for (let attempt = 1; attempt <= 12; attempt += 1) {
      there.write(started(node, attempt));
      await there.send();
    }
    // Names of two hosts, and of all that they sent.
    expect(await look()).toEqual({ listings: 3, names: 2 + 13, reads: 13 });
    expect(await look()).toEqual({ listings: 3, names: 2, reads: 0 });
    there.write(started(node, 13));
    await there.send();
    expect(await look()).toEqual({ listings: 3, names: 2 + 1, reads: 1 });
    expect(here.events()).toHaveLength(14);
  });

  it('loses nothing that two workers of one folder send in turns, or one sends again after a crash', async () => {
    const [here, there] = [new Host('here'), new Host('there')];
    const lines = Array.from(
      { length: 6 },
      (_, place) => `${JSON.stringify(started(nodeOf('finetune'), place + 1))}\n`,
    );
    const [size, send] = [
      lines[0]!.length,
      (from: number, to: number) =>
        there.logs.sendEvents(run, from * lines[0]!.length, Buffer.from(lines.slice(from, to).join(''))),
    ];
    expect(new Set(lines.map(({ length }) => length))).toEqual(new Set([size]));
    const attempts = (): unknown[] => here.events().map((event) => 'attempt' in event && event.attempt);
    await send(0, 1);
    await here.collect();
    await send(0, 2);
    await here.collect();
    expect(new Set(attempts())).toEqual(new Set([1, 2]));
    await send(2, 3);
    await here.collect();
    // Late, from a worker that had read the place before the other one moved it.
    await send(1, 5);
    await here.collect();
    await send(5, 6);
    await here.collect();
    expect(new Set(attempts())).toEqual(new Set([1, 2, 3, 4, 5, 6]));
  });

  it('takes nothing from another host that must stay', async () => {
    const [here, there] = [new Host('here'), new Host('there')];
    const loss = { type: 'metric', time: 1, node: nodeOf('finetune'), name: 'loss', value: 1.25, step: 1 } as const;
    there.write(loss, started(loss.node));
    await there.send();
    await here.collect();
    expect(here.events().map(({ type }) => type)).toEqual(['node-started']);
  });

  it('knows the end of an attempt whose beginning comes late', () => {
    const node = nodeOf('finetune');
    const failed: RunEvent = { type: 'node-failed', time: 5, node, code: 'JOB_CRASHED', message: 'gone' };
    const { nodes } = summariseRun([started(node, 2), failed, started(node, 1)]);
    expect(nodes.get(node)).toMatchObject({ status: 'failed', attempt: 2 });
  });

  it('says which checkpoints have not reached the store', () => {
    const node = nodeOf('finetune');
    const unsent = { type: 'checkpoint-unsent', time: 7, node, code: 'STORE_REFUSED' } as const;
    const state = (...events: RunEvent[]): unknown => summariseRun(events).nodes.get(node)!.unsent;
    expect(state(started(node), unsent, { ...unsent, time: 8 })).toEqual({ code: 'STORE_REFUSED', since: 7 });
    expect(state(started(node), unsent, { type: 'checkpoint-sent', time: 9, node })).toBeNull();
    expect(state(started(node), unsent, { type: 'node-cancelled', time: 9, node })).toBeNull();
  });

  it('keeps what steps wrote sealed on its way', async () => {
    const [here, there] = [new Host('here'), new Host('there')];
    await there.logs.sendStepLog(run, 'generator', Buffer.from('a record that was planted'));
    await there.logs.sendProgress(run, '[]');
    const [stored] = await objects.list('logs/made-up/1/steps/');
    expect((await objects.get(stored!.name))!.content.includes('planted')).toBe(false);
    expect(await here.logs.stepLogsElsewhere(run)).toMatchObject([
      { slug: 'generator', text: 'a record that was planted' },
    ]);
    expect(await there.logs.stepLogsElsewhere(run)).toEqual([]);
    expect(await here.logs.runs()).toEqual(['made-up/1']);
    await here.logs.remove(run);
    expect(await objects.list('logs/')).toEqual([]);
  });
});
