/** @file Activities that talk to the ledger: the envelope of a run, and the life of one private step. */

import type { Envelope } from '../privacy/ledger/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan } from '../schemas/plan.ts';
import type { ControlActivities, RunIdentity } from './contract.ts';
import { nodeOf, recordCompleted } from './run-step.ts';
import { createNoiseKey, destroyWorkFolder, keyEpoch, privateWorkFolder } from './work-folder.ts';
import type { WorkerParts } from './worker-parts.ts';

type BudgetActivities = Pick<
  ControlActivities,
  'reserveBudget' | 'releaseBudget' | 'openPrivateStep' | 'commitPrivateStep' | 'closePrivateStep'
>;

export function createBudgetActivities({ store, ledger }: WorkerParts): BudgetActivities {
  return {
    async reserveBudget(run, nodeIds) {
      const plan = await store.loadPlan(run.planDigest);
      return (await ledger()).reserve(envelopeOf(plan, run, nodeIds));
    },

    async releaseBudget(run) {
      await (await ledger()).release(run.workflowId);
    },

    /** From here on the step's noise is determined, before the ledger counts it as begun. */
    async openPrivateStep(_run, receipt) {
      // A key made for an entry that has begun would be another one: the same step would get other noise, uncounted.
      if ((await (await ledger()).entryState(receipt)) !== 'reserved') return;
      await createNoiseKey(privateWorkFolder(receipt), receipt);
    },

    async commitPrivateStep(request, outcome) {
      const { receipt, nodeId, run } = request;
      if (!receipt || !outcome.commit) {
        throw new EpsilonflowError('RECEIPT_INVALID', `${nodeId} has nothing to commit.`);
      }
      await (await ledger()).commit(receipt, outcome.commit.token, outcome.commit.proof);
      const plan = await store.loadPlan(run.planDigest);
      recordCompleted(request, nodeOf(plan, nodeId), outcome);
      await destroyWorkFolder(privateWorkFolder(receipt));
    },

    async closePrivateStep(_run, receipt) {
      await destroyWorkFolder(privateWorkFolder(receipt));
    },
  };
}

export function envelopeOf(
  plan: Plan,
  run: Pick<RunIdentity, 'workflowId' | 'name'>,
  nodeIds: readonly string[],
): Envelope {
  const wanted = new Set(nodeIds);
  const charged = plan.nodes.flatMap((node) =>
    wanted.has(node.id) && node.privacy ? [{ node, privacy: node.privacy }] : [],
  );
  const datasets = [...new Set(charged.map(({ privacy }) => privacy.dataset))].map((name) => plan.datasets[name]!);
  return {
    workflowId: run.workflowId,
    experiment: run.name,
    planDigest: plan.digest,
    accounts: datasets.map(({ name, digest, privacy, sensitivity }) => ({
      dataset: name,
      digest,
      delta: privacy!.delta,
      budget: privacy!.budget,
      benchmark: sensitivity === 'benchmark',
    })),
    entries: charged.map(({ node, privacy }) => ({
      dataset: privacy.dataset,
      nodeId: node.id,
      nodeKey: node.key,
      keyEpoch,
      mechanism: privacy.mechanism,
      mechanismDigest: privacy.digest,
    })),
  };
}
