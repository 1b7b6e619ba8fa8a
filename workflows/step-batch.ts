/** @file Nodes that spend no privacy and hang together, in a history of their own, or in several one after the other. */

import { CancellationScope, continueAsNew } from '@temporalio/workflow';
import type { BatchedNode, StepBatchInput, StepEnd } from '../activities/contract.ts';
import { ExperimentChild } from './experiment-child.ts';
import { settled } from './step-end.ts';
import { runStep } from './steps.ts';

export async function stepBatch(input: StepBatchInput): Promise<void> {
  const { run, nodes, tie, events, paused = false } = input;
  const child = new ExperimentChild(run, tie, nodes.length, paused);
  const ends = new Map<string, Promise<StepEnd>>();
  const left = new Map(nodes.map((node) => [node.id, node]));
  const endOfNeed = (need: string | number): Promise<StepEnd> =>
    ends.get(typeof need === 'number' ? nodes[need]!.id : need)!;
  const doStep = (node: BatchedNode): Promise<StepEnd> => {
    const request = { run, nodeId: node.id, receipts: [], ledgerHead: null };
    const attempt = (pauses: number): ReturnType<typeof runStep> => {
      left.set(node.id, { ...node, pauses: pauses + 1 });
      return runStep(node, { ...request, pauses });
    };
    return settled(node.id, child.pause.around(attempt, node.pauses));
  };
  const perform = async (node: BatchedNode): Promise<StepEnd> => {
    const before = await Promise.all(node.needs.map(endOfNeed));
    const end = notStarted(node.id, before) ?? (await doStep(node));
    left.delete(node.id);
    child.tell(end);
    return end;
  };
  const work = child.whileItRuns(() => {
    for (const node of nodes) ends.set(node.id, perform(node));
    return Promise.all(ends.values());
  });
  const done = work.then(() => 'done' as const);
  const worn = events === undefined ? [] : [child.worn(events).then(() => 'worn' as const)];
  if ((await Promise.race([done, ...worn])) === 'worn') {
    const rest = nodesLeft(nodes, left);
    await continueAsNew<typeof stepBatch>({ ...input, nodes: rest, paused: child.pause.isPaused });
  }
  await child.told();
}

/** What has not ended, with its needs among that. */
function nodesLeft(nodes: readonly BatchedNode[], left: ReadonlyMap<string, BatchedNode>): BatchedNode[] {
  const rest = nodes.flatMap(({ id }) => left.get(id) ?? []);
  const places = new Map(rest.map(({ id }, place) => [id, place]));
  return rest.map((node) => ({
    ...node,
    needs: node.needs.flatMap((need) => places.get(typeof need === 'number' ? nodes[need]!.id : need) ?? []),
  }));
}

/** @param before ends of what the node needs; null when it may start */
function notStarted(node: string, before: readonly StepEnd[]): StepEnd | null {
  if (CancellationScope.current().consideredCancelled) return { end: 'skipped', node, because: null };
  const broken = before.find(({ end }) => end !== 'completed');
  if (!broken) return null;
  return { end: 'skipped', node, because: broken.end === 'skipped' ? broken.because : broken.node };
}
