/** @file Which steps of a run wait for a worker that nobody runs now: one with a card, or with the private data. */

import type { Client } from '@temporalio/client';
import { queueOf } from '../activities/step-queue.ts';
import type { Plan } from '../schemas/plan.ts';
import { sharedStoreUrl } from '../stack/paths.ts';
import type { RunSummary } from '../tracking/run-summary.ts';

export interface AwaitedWorker {
  node: string;
  queue: string;
  /** Names of the private datasets that the worker needs. */
  datasets: string[];
}

/** Temporal's number for queues of activities. */
const ofActivities = 2;

/** A worker that waits for tasks asks again within a minute. */
const silence = 120_000;

/** Steps that could run and have not begun, of queues where no worker has asked for tasks lately. */
export async function awaitedWorkers(client: Client, plan: Plan, run: RunSummary): Promise<AwaitedWorker[]> {
  const { nodes, awaiting, isPaused } = run;
  if (isPaused) return [];
  const isDone = (id: string): boolean => nodes.get(id)?.status === 'completed';
  const held = plan.nodes.flatMap((node) => {
    const { queue, reads = [] } = queueOf(plan, node, sharedStoreUrl() !== null);
    const mayStart = (nodes.get(node.id)?.status ?? 'waiting') === 'waiting' && node.needs.every(isDone);
    const isHeld = awaiting?.steps.includes(node.step) ?? false;
    return queue !== undefined && mayStart && !isHeld ? [{ node: node.id, queue, datasets: reads }] : [];
  });
  const served = new Map<string, boolean>();
  for (const queue of new Set(held.map(({ queue }) => queue))) served.set(queue, await isServed(client, queue));
  return held.filter(({ queue }) => !served.get(queue));
}

async function isServed({ workflowService, options: { namespace } }: Client, name: string): Promise<boolean> {
  const { pollers } = await workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name },
    taskQueueType: ofActivities,
  });
  return (pollers ?? []).some(({ lastAccessTime }) => {
    return Number(lastAccessTime?.seconds ?? 0) * 1000 > Date.now() - silence;
  });
}

/** A line for each queue, by its name: many instances may wait in one. */
export function describeAwaited(steps: readonly AwaitedWorker[]): Map<string, string> {
  const byQueue = new Map<string, AwaitedWorker[]>();
  for (const step of steps) {
    const waiting = byQueue.get(step.queue);
    if (waiting) waiting.push(step);
    else byQueue.set(step.queue, [step]);
  }
  return new Map([...byQueue].map(([queue, waiting]) => [queue, describeQueue(waiting)]));
}

function describeQueue([first, ...others]: readonly AwaitedWorker[]): string {
  const { node, queue, datasets } = first!;
  const who = others.length === 0 ? node : `${node} and ${others.length} more`;
  return datasets.length > 0
    ? `${who}: waits for a free worker that has dataset ${datasets.join(' and ')}: epsilonflow worker --data SPEC`
    : `${who}: waits for a free worker of the queue ${queue}: epsilonflow worker --queues ${queue}`;
}
