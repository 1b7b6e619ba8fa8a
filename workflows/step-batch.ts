/** @file Nodes that spend no privacy and hang together, in a history of their own. */

import { CancellationScope } from '@temporalio/workflow';
import type { BatchedNode, StepBatchInput, StepEnd } from '../activities/contract.ts';
import { ExperimentChild } from './experiment-child.ts';
import { settled } from './step-end.ts';
import { runStep } from './steps.ts';

export async function stepBatch({ run, nodes, tie }: StepBatchInput): Promise<void> {
  const child = new ExperimentChild(run, tie, nodes.length);
  const ends = new Map<string, Promise<StepEnd>>();
  const endOfNeed = (need: string | number): Promise<StepEnd> =>
    ends.get(typeof need === 'number' ? nodes[need]!.id : need)!;
  const perform = async (node: BatchedNode): Promise<StepEnd> => {
    const before = await Promise.all(node.needs.map(endOfNeed));
    const end =
      notStarted(node.id, before) ??
      (await settled(
        node.id,
        child.pause.around((pauses) => runStep(node, { run, nodeId: node.id, receipts: [], ledgerHead: null, pauses })),
      ));
    child.tell(end);
    return end;
  };
  await child.whileItRuns(() => {
    for (const node of nodes) ends.set(node.id, perform(node));
    return Promise.all(ends.values());
  });
  await child.told();
}

/** @param before ends of what the node needs; null when it may start */
function notStarted(node: string, before: readonly StepEnd[]): StepEnd | null {
  if (CancellationScope.current().consideredCancelled) return { end: 'skipped', node, because: null };
  const broken = before.find(({ end }) => end !== 'completed');
  if (!broken) return null;
  return { end: 'skipped', node, because: broken.end === 'skipped' ? broken.because : broken.node };
}
