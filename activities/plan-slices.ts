/** @file Reads a plan for the interpreter by slices, and says which of its results are there already. */

import { paymentOf } from '../privacy/ledger/index.ts';
import { accountOf, chargesOf } from '../schemas/charges.ts';
import { facetsOf, type Facets } from '../schemas/facets.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { Plan, PlanNode } from '../schemas/plan.ts';
import type { RunEvent } from '../tracking/events.ts';
import type { CachedSlice, ControlActivities, PlannedNode, PlanSlice } from './contract.ts';
import { keepRun, offerLogs } from './log-sharing.ts';
import { queueOf } from './step-queue.ts';
import { logEvents, type WorkerParts } from './worker-parts.ts';

/** A payload of Temporal holds 2 MB and is kept in the history; slices stay far below. */
const sliceBytes = 128 * 1024;

/** Nodes looked up at a time: each costs a few system calls. */
const lookupSlice = 500;

type PlanReading = Pick<ControlActivities, 'readPlanSlice' | 'findCached' | 'recordReused'>;

export function createPlanReading(parts: WorkerParts): PlanReading {
  const { store, ledger } = parts;
  return {
    async readPlanSlice(planDigest, from): Promise<PlanSlice> {
      const plan = await store.loadPlan(planDigest);
      return slicePlan(plan, from, store.logs !== null);
    },

    async findCached(planDigest, from): Promise<CachedSlice> {
      const plan = await store.loadPlan(planDigest);
      const end = Math.min(from + lookupSlice, plan.nodes.length);
      const lineage = lineageOf(plan);
      const cached: string[] = [];
      for (const node of plan.nodes.slice(from, end)) {
        const artifact = await store.lookup(node.key);
        const charges = lineage.chargesBehind(node.id);
        if (artifact && (await paymentOf(await ledger(), artifact.manifest.paidBy, charges))) cached.push(node.id);
      }
      return { cached, next: end < plan.nodes.length ? end : null };
    },

    async recordReused(run, nodeIds): Promise<void> {
      const plan = await store.loadPlan(run.planDigest);
      const wanted = new Set(nodeIds);
      const nodes = plan.nodes.filter(({ id }) => wanted.has(id));
      const time = Date.now();
      const events: RunEvent[] = [];
      for (const node of nodes) {
        const { metrics = {}, charges = [] } = (await store.lookup(node.key))?.manifest ?? {};
        events.push({
          type: 'node-completed',
          time,
          node: node.id,
          key: node.key,
          reused: true,
          metrics,
          seconds: 0,
          attempt: 0,
          ledgerEntries: charges.map(({ entryId }) => entryId),
        });
      }
      await keepRun(parts, run);
      logEvents(run, plan, events);
      await offerLogs(parts, run);
    },
  };
}

/** @param isShared whether hosts share a store */
export function slicePlan(plan: Plan, from: number, isShared = false): PlanSlice {
  const nodes: PlannedNode[] = [];
  let bytes = 0;
  let index = from;
  const facets = facetsOf(plan);
  for (; index < plan.nodes.length; index += 1) {
    const planned = plan.nodes[index]!;
    const node = plannedNode(plan, planned, facets.get(planned.id)!, isShared);
    bytes += Buffer.byteLength(JSON.stringify(node)) + 1;
    if (bytes > sliceBytes && nodes.length > 0) break;
    nodes.push(node);
  }
  const hasSoftBudgets = Object.values(plan.datasets).some(({ privacy }) => privacy?.softBudget !== undefined);
  return {
    failure: plan.failure,
    ...(hasSoftBudgets ? { hasSoftBudgets } : {}),
    nodes,
    next: index < plan.nodes.length ? index : null,
  };
}

const plannedNode = (plan: Plan, node: PlanNode, { datasets, epsilons }: Facets, isShared: boolean): PlannedNode => ({
  id: node.id,
  slug: node.slug,
  kind: node.kind,
  key: node.key,
  needs: node.needs,
  charges: chargesOf(node).map((charge) => ({ dataset: accountOf(charge), mechanismDigest: charge.digest })),
  ...(datasets.length > 0 ? { datasets } : {}),
  ...(epsilons.length > 0 ? { epsilons } : {}),
  ...(node.approval ? { approval: node.step } : {}),
  ...queueOf(plan, node, isShared),
});
