/** @file What a step reads: its node of the plan, and the results that the node names. */

import type { OpenedArtifact } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import type { StepReceipt } from './contract.ts';
import type { WorkerParts } from './worker-parts.ts';

export const nodeOf = (plan: Plan, id: string): PlanNode => {
  const node = lineageOf(plan).node(id);
  if (!node) throw new EpsilonflowError('INSTANCE_UNKNOWN', `The plan ${plan.digest.slice(0, 12)} holds no ${id}.`);
  return node;
};

/** @throws EpsilonflowError INPUT_MISSING */
export async function openInputs(
  parts: Pick<WorkerParts, 'store'>,
  plan: Plan,
  node: PlanNode,
): Promise<Record<string, OpenedArtifact[]>> {
  const opened: Record<string, OpenedArtifact[]> = {};
  for (const [role, input] of Object.entries(node.inputs)) {
    if (!('nodes' in input)) continue;
    opened[role] = [];
    for (const id of input.nodes) {
      const artifact = await parts.store.lookup(nodeOf(plan, id).key);
      if (!artifact) {
        throw new EpsilonflowError(
          'INPUT_MISSING',
          `${node.id} reads the result of ${id}, which is not whole in the store.`,
          {
            hint: 'It was removed or damaged. Run the spec again: only what is missing is made anew.',
          },
        );
      }
      // The artifact may have been made under another plan, where its node had another name.
      opened[role].push({ ...artifact, nodeId: id });
    }
  }
  return opened;
}

/** Ids of the ledger entries behind a result that is made of these. */
export function payersOf(inputs: Record<string, OpenedArtifact[]>, receipts: readonly StepReceipt[]): string[] {
  const behind = Object.values(inputs).flatMap((artifacts) =>
    artifacts.flatMap(({ manifest }) => manifest.paidBy ?? []),
  );
  return [...new Set([...behind, ...receipts.map(({ entryId }) => entryId)])].sort();
}
