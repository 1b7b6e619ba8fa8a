/** @file Follows a run until its end: shows its events as they come, and keeps a local worker alive meanwhile. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { readProgress, type LiveProgress } from '../activities/live-progress.ts';
import type { Plan } from '../schemas/plan.ts';
import type { TemporalService } from '../stack/services.ts';
import { ensureWorker, findWorker } from '../stack/worker-process.ts';
import { openStore } from '../store/index.ts';
import { readEvents, summariseRun, type RunEvent } from '../tracking/events.ts';
import type { RunFolder } from '../tracking/runs.ts';
import type { ExperimentResult, ExperimentStatus } from '../activities/contract.ts';
import type { PartialSum } from '../tracking/estimates.ts';
import { awaitedWorkers, describeAwaited } from './awaited-workers.ts';
import type { LiveView } from './live-view.ts';
import { progressElsewhere, takeFromOthers } from './other-hosts.ts';
import { runError } from './temporal-client.ts';
import { openClock } from './time-left.ts';

/** How often the view is drawn, and how often it is checked that a worker lives; milliseconds. */
const drawEvery = 250;
const checkEvery = 5_000;
const askEvery = 1_000;
const takeEvery = 2_000;
const timeEvery = 2_000;

/** Someone who sees that a run waits can approve it. */
const isWatched = (): boolean => process.stdin.isTTY && process.stderr.isTTY;

/**
 * @returns what the run ended with, `detached` when the signal came first, or `waiting` where only approval is missing
 *   and nobody is there to give it
 * @throws EpsilonflowError of the run when it did not complete
 */
export async function watchRun(
  client: Client,
  temporal: TemporalService,
  folder: RunFolder,
  plan: Plan,
  view: LiveView,
  detach: AbortSignal,
): Promise<ExperimentResult | 'detached' | 'waiting'> {
  const { directory, record } = folder;
  const store = openStore();
  let end: { result: ExperimentResult } | { error: unknown } | null = null;
  // Left asking, it would try again on a connection that is closed by then.
  const asking = new AbortController();
  const result = client.withAbortSignal(asking.signal, () => client.workflow.getHandle(record.workflowId).result());
  void (result as Promise<ExperimentResult>).then(
    (result) => (end = { result }),
    (error: unknown) => (end = { error: runError(error) }),
  );
  const events: RunEvent[] = [];
  const clock = await openClock(folder);
  let left: PartialSum | null = null;
  let timedAt = 0;
  let nextByte = 0;
  let checkedAt = Date.now();
  let askedAt = 0;
  let takenAt = 0;
  let elsewhere: LiveProgress[] = [];
  let isWaiting = false;
  const said = new Set<string>();
  const show = (): void => {
    const news = readEvents(directory, nextByte);
    nextByte = news.nextByte;
    for (const event of news.events) {
      events.push(event);
      view.event(event);
    }
    const { nodes } = summariseRun(events);
    const progress = [...readProgress(directory), ...elsewhere];
    if (Date.now() - timedAt > timeEvery) {
      left = clock({ events, nodes, progress });
      timedAt = Date.now();
    }
    view.draw({ total: plan.nodes.length, nodes, progress, left });
  };
  // The loop reads `end` through a function: assignments of a callback are not seen by the checker.
  const ended = (): typeof end => end;
  while (ended() === null && !detach.aborted && !isWaiting) {
    if (Date.now() - takenAt > takeEvery) {
      takenAt = Date.now();
      await takeFromOthers(store, [folder]);
      elsewhere = await progressElsewhere(store, folder);
    }
    show();
    if (!isWatched() && Date.now() - askedAt > askEvery && summariseRun(events).awaiting !== null) {
      isWaiting = await waitsForApproval(client, record.workflowId);
      askedAt = Date.now();
    }
    if (Date.now() - checkedAt > checkEvery) {
      checkedAt = Date.now();
      if (temporal.own && !findWorker()) {
        view.say('The worker has gone; starting another. Steps go on from their checkpoints.');
        await ensureWorker(temporal);
      }
      const awaited = await awaitedWorkers(client, plan, summariseRun(events)).catch(() => []);
      for (const line of awaited.map(describeAwaited)) {
        if (!said.has(line)) view.say(line);
        said.add(line);
      }
    }
    await sleep(drawEvery, undefined, { signal: detach }).catch(() => undefined);
  }
  await takeFromOthers(store, [folder]);
  show();
  view.end();
  const last = ended();
  asking.abort();
  if (last === null) return isWaiting ? 'waiting' : 'detached';
  if ('error' in last) throw last.error;
  return last.result;
}

/** The log does not tell whether something else is about to start. */
async function waitsForApproval(client: Client, workflowId: string): Promise<boolean> {
  const ask = (): Promise<ExperimentStatus> => client.workflow.getHandle(workflowId).query('status');
  const status = await client.withDeadline(Date.now() + checkEvery, ask).catch(() => null);
  return status?.phase === 'waiting';
}
