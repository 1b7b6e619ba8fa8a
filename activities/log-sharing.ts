/** @file Where hosts share a store, what they log of a run goes to all of them: see `tracking/shared-log.ts`. */

import { open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inParallel } from '../schemas/in-parallel.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { SharedLogs } from '../store/index.ts';
import { isRun, runDirectories, writeRun } from '../tracking/runs.ts';
import { collectEvents, sendEvents } from '../tracking/shared-log.ts';
import type { RunIdentity, StepRequest } from './contract.ts';
import { readProgress } from './live-progress.ts';
import { openStepLog } from './step-log.ts';
import { troubles } from './troubles.ts';
import { runDirectory, type WorkerParts } from './worker-parts.ts';

/** How often what a step says is sent while it runs, milliseconds. */
const sendEvery = 5_000;

/** As much of the end of a step's log as is sent. */
const mostLogBytes = 256 * 1024;

/** Runs of which logs are sent at a time. */
const sentTogether = 4;

const unsent = 'Logs of runs do not reach the shared store, so that other machines do not see them';

/** A run that was started on another host has its folder there: the host that keeps its log makes one of its own. */
export async function keepRun({ store }: Pick<WorkerParts, 'store'>, run: RunIdentity): Promise<void> {
  if (store.logs === null || isRun(runDirectory(run))) return;
  const { spec } = await store.loadPlan(run.planDigest);
  const { name, number, workflowId, planDigest } = run;
  const { specText = '', startedAt = new Date().toISOString() } = (await store.runs.find(run)) ?? {};
  writeRun({ name, number, workflowId, planDigest, specFile: spec.file, startedAt }, specText);
}

/** Takes what other hosts logged, so that what this one logs next stands after it. */
export async function takeLogs({ store }: Pick<WorkerParts, 'store'>, run: RunIdentity): Promise<void> {
  if (store.logs === null) return;
  await collectEvents(runDirectory(run), run, await store.loadPlan(run.planDigest), store.logs);
}

/** Sends what this host logged; what can't be sent now goes with the next. */
export async function offerLogs(
  { store }: Pick<WorkerParts, 'store'>,
  run: Pick<RunIdentity, 'name' | 'number'>,
): Promise<void> {
  const { logs } = store;
  if (logs !== null) await troubles.watch(unsent, () => sendEvents(runDirectory(run), run, logs));
}

/** Sends what this host logged of any run and could not send when it did. */
export async function offerAllLogs({ store }: Pick<WorkerParts, 'store'>): Promise<void> {
  await inParallel(sentTogether, store.logs === null ? [] : runDirectories(), (directory) =>
    offerLogs({ store }, { name: basename(dirname(directory)), number: Number(basename(directory)) }),
  );
}

/**
 * Does a step and sends what it says meanwhile. A step whose last words can't be sent is not done: the host that keeps
 * the run's log would never hear of it. It finds its result when it is tried again.
 */
export async function whileSendingLogs<T>(
  { store }: Pick<WorkerParts, 'store'>,
  request: StepRequest,
  work: () => Promise<T>,
): Promise<T> {
  const { logs } = store;
  if (logs === null) return work();
  const { run } = request;
  const slug = lineageOf(await store.loadPlan(run.planDigest)).node(request.nodeId)?.slug;
  const ended = new AbortController();
  const sending = repeat(ended.signal, async () => {
    await sendEvents(runDirectory(run), run, logs);
    await sendProgress(run, logs);
  });
  const close = async (): Promise<void> => {
    ended.abort();
    await sending;
    if (slug !== undefined) await sendStepLog(run, slug, logs).catch(() => undefined);
    await sendProgress(run, logs).catch(() => undefined);
    await sendEvents(runDirectory(run), run, logs);
  };
  let result: T;
  try {
    result = await work();
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
  await close();
  return result;
}

async function repeat(ended: AbortSignal, send: () => Promise<void>): Promise<void> {
  while (!ended.aborted) {
    await sleep(sendEvery, undefined, { signal: ended }).catch(() => undefined);
    if (!ended.aborted) await troubles.watch(unsent, send);
  }
}

const sendProgress = (run: RunIdentity, logs: SharedLogs): Promise<void> =>
  logs.sendProgress(run, JSON.stringify(readProgress(runDirectory(run))));

async function sendStepLog(run: RunIdentity, slug: string, logs: SharedLogs): Promise<void> {
  const file = await open(await openStepLog(run, { slug }), 'r');
  try {
    const { size } = await file.stat();
    const start = Math.max(0, size - mostLogBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, null, start);
    await logs.sendStepLog(run, slug, buffer.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
}
