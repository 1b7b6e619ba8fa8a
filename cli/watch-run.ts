/** @file Follows a run until its end: shows its events as they come, and keeps a local worker alive meanwhile. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { ExperimentResult, ExperimentStatus } from '../activities/contract.ts';
import { ensureWorker, findWorker } from '../stack/worker-process.ts';
import { Asker } from './asker.ts';
import { awaitedWorkers, describeAwaited } from './awaited-workers.ts';
import { RunLook, type LookedAt } from './run-look.ts';
import { SpentEpsilon, spends } from './spent-epsilon.ts';
import { runError } from './temporal-client.ts';
import type { LiveView } from './live-view.ts';
import type { TemporalService } from '../stack/services.ts';

export interface WatchedRun extends LookedAt {
  client: Client;
  temporal: TemporalService;
  view: LiveView;
}

/** How often is looked at what lies here, and other machines are asked: rarer where nothing happens; milliseconds. */
const lookEvery = { least: 250, most: 1_000 };
const askEvery = { least: 1_000, most: 10_000 };
const checkEvery = { least: 5_000, most: 20_000 };
const liveEvery = { least: 5_000, most: 5_000 };

/** How long a question to Temporal may take, milliseconds. */
const askWithin = 5_000;

/** Someone who sees that a run waits can approve it. */
const isWatched = (): boolean => process.stdin.isTTY && process.stderr.isTTY;

/**
 * @returns what the run ended with, `detached` when the signal came first, or `waiting` where only approval is missing
 *   and nobody is there to give it
 * @throws EpsilonflowError of the run when it did not complete
 */
export async function watchRun(
  run: WatchedRun,
  detach: AbortSignal,
): Promise<ExperimentResult | 'detached' | 'waiting'> {
  const { client, view, folder } = run;
  // Left asking, it would try again on a connection that is closed by then.
  const asking = new AbortController();
  const ended = new AbortController();
  const handle = client.workflow.getHandle(folder.record.workflowId);
  const result = client.withAbortSignal(asking.signal, () => handle.result()) as Promise<ExperimentResult>;
  let end: { result: ExperimentResult } | { error: unknown } | null = null;
  const stop = (how: typeof end): void => {
    end = how;
    ended.abort();
  };
  void result.then(
    (result) => stop({ result }),
    (error: unknown) => stop({ error: runError(error) }),
  );
  const look = new RunLook(run);
  const watch = new Watch(run, look);
  const over = AbortSignal.any([detach, ended.signal]);
  let wait = lookEvery.least;
  while (!over.aborted && !watch.isWaiting) {
    const before = look.news;
    view.show(...look.take());
    watch.tick(look.news);
    wait = look.news === before ? Math.min(lookEvery.most, wait * 1.5) : lookEvery.least;
    await sleep(wait, undefined, { signal: over }).catch(() => undefined);
  }
  // A store that gives no answer keeps nobody who wants to leave.
  if (!detach.aborted) await look.askOthers((line) => view.say(line));
  view.show(...look.take());
  view.end();
  asking.abort();
  // Assignments of a callback are not seen by the checker.
  const last = end as { result: ExperimentResult } | { error: unknown } | null;
  if (last === null) return watch.isWaiting ? 'waiting' : 'detached';
  if ('error' in last) throw last.error;
  return last.result;
}

/** What is asked beside looking. */
class Watch {
  /** Whether only approval is missing, and nobody is there to give it. */
  isWaiting = false;
  private readonly run: WatchedRun;
  private readonly look: RunLook;
  private readonly askers: readonly Asker[];
  private readonly said = new Set<string>();

  constructor(run: WatchedRun, look: RunLook) {
    this.run = run;
    this.look = look;
    this.askers = [
      ...(look.hasOthers ? [new Asker(() => look.askOthers((line) => this.sayOnce(line)), askEvery)] : []),
      ...(spends(run.plan) ? [new Asker(this.spending(), askEvery)] : []),
      ...(isWatched() ? [] : [new Asker(() => this.askWhetherItWaits(), askEvery)]),
      ...(run.temporal.own ? [new Asker(() => this.keepWorker(), liveEvery)] : []),
      new Asker(() => this.findAwaited(), checkEvery),
    ];
  }

  /** @throws what a question has thrown that the run can't do without */
  tick(news: number): void {
    for (const asker of this.askers) asker.tick(news, Date.now());
  }

  private sayOnce(line: string, subject = line): void {
    if (!this.said.has(subject)) this.run.view.say(line);
    this.said.add(subject);
  }

  private spending(): () => Promise<void> {
    const spent = new SpentEpsilon(this.run.folder);
    return async () => {
      try {
        this.look.spent = await spent.lines();
      } catch (error) {
        // What was read before may be less than what it has come to.
        this.look.spent = [];
        this.sayOnce(
          `What the accounts come to is not shown: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    };
  }

  /** The log does not tell whether something else is about to start. */
  private async askWhetherItWaits(): Promise<void> {
    if (this.look.run.awaiting === null) return;
    const { client, folder } = this.run;
    const ask = (): Promise<ExperimentStatus> => client.workflow.getHandle(folder.record.workflowId).query('status');
    const status = await client.withDeadline(Date.now() + askWithin, ask).catch(() => null);
    this.isWaiting = status?.phase === 'waiting';
  }

  private async keepWorker(): Promise<void> {
    if (findWorker()) return;
    this.run.view.say('The worker has gone; starting another. Steps go on from their checkpoints.');
    await ensureWorker(this.run.temporal);
  }

  private async findAwaited(): Promise<void> {
    const { client, plan } = this.run;
    const ask = client.withDeadline(Date.now() + askWithin, () => awaitedWorkers(client, plan, this.look.run));
    for (const [queue, line] of describeAwaited(await ask.catch(() => []))) this.sayOnce(line, queue);
  }
}
