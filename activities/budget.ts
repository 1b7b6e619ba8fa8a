/** @file Activities that talk to the ledger: the envelope of a run, and the life of one private step. */

import { mkdir } from 'node:fs/promises';
import {
  envelopeAccount,
  envelopeEntry,
  headOf,
  receiptOf,
  type Envelope,
  type KnownHead,
  type Ledger,
} from '../privacy/ledger/index.ts';
import { accountOf, chargesOf, splitOfAccount } from '../schemas/charges.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import type { Plan } from '../schemas/plan.ts';
import { writeDurably } from '../store/disk.ts';
import { ledgerHeadFile } from '../tracking/runs.ts';
import { showEpsilon } from '../tracking/wording.ts';
import { requireRecords } from './authority.ts';
import type { ControlActivities, ReservedBudget, RunIdentity } from './contract.ts';
import { keepRun, offerLogs } from './log-sharing.ts';
import { recordCompleted } from './run-step.ts';
import { nodeOf } from './step-inputs.ts';
import {
  closeWorkFolder,
  createNoiseKey,
  destroyWorkFolder,
  hasNoiseKey,
  keptRecordCounts,
  keyEpoch,
  privateWorkFolder,
  privateWorkFolders,
  type WorkFolder,
} from './work-folder.ts';
import { runDirectory, type WorkerParts } from './worker-parts.ts';

type BudgetActivities = Pick<
  ControlActivities,
  | 'findSoftOverruns'
  | 'reservePlan'
  | 'readReceipts'
  | 'reserveBudget'
  | 'releaseBudget'
  | 'openPrivateStep'
  | 'commitPrivateStep'
  | 'closePrivateStep'
>;

export function createBudgetActivities(parts: WorkerParts): BudgetActivities {
  const { store, ledger } = parts;
  /** Leaves word in the run's folder, for the tracker, and for whoever called. */
  const headFor = async (run: RunIdentity, opened: Ledger): Promise<KnownHead> => {
    const head = await headOf(opened);
    await mkdir(runDirectory(run), { recursive: true });
    await writeDurably(ledgerHeadFile(runDirectory(run)), JSON.stringify(head) + '\n');
    return head;
  };
  const reserve = async (run: RunIdentity, nodeIds: string[], known: KnownHead | null): Promise<ReservedBudget> => {
    const opened = await ledger(known);
    const plan = await store.loadPlan(run.planDigest);
    const receipts = await opened.reserve(envelopeOf(plan, run, nodeIds));
    return { receipts, ledgerHead: await headFor(run, opened) };
  };
  return {
    reserveBudget: reserve,

    async reservePlan(run, nodeIds, known) {
      return (await reserve(run, nodeIds, known)).ledgerHead;
    },

    async findSoftOverruns(run, nodeIds, known) {
      const plan = await store.loadPlan(run.planDigest);
      const verdicts = await (await ledger(known)).quote(envelopeOf(plan, run, nodeIds));
      return verdicts.flatMap(({ dataset: account, after, decisive }) => {
        const softBudget = plan.datasets[splitOfAccount(account).dataset]?.privacy?.softBudget;
        if (softBudget === undefined) return [];
        const total = after === null ? null : Math.max(after, decisive ?? 0);
        if (total !== null && total <= softBudget) return [];
        return [{ account, epsilon: total === null ? null : Number(showEpsilon(total)), softBudget }];
      });
    },

    async readReceipts(run, nodeIds, known) {
      const opened = await ledger(known);
      const { entries } = envelopeOf(await store.loadPlan(run.planDigest), run, nodeIds);
      const receipts = entries.map((entry) => receiptOf(run.workflowId, entry));
      for (const receipt of receipts) {
        if ((await opened.entryState(receipt)) !== 'released') continue;
        throw new EpsilonflowError('RECEIPT_INVALID', `The ledger holds ${receipt.entryId} no more: it was released.`);
      }
      failpoint('receipts: read');
      return receipts;
    },

    async releaseBudget(run, known) {
      const opened = await ledger(known);
      const works = await keptRecordsOf(run);
      await opened.release(run.workflowId, {
        records: new Map(works.flatMap(({ counts }) => [...counts])),
        ownKeys: new Map(works.flatMap(({ ownKeys }) => Object.entries(ownKeys))),
      });
      for (const { work, counts } of works) {
        // From here on the chain tells of the records, unless the ledger lacks some.
        if (!(await hasNoiseKey(work)) && (await hasRecords(opened, counts))) await destroyWorkFolder(work);
      }
      return headFor(run, opened);
    },

    /** From here on the step's noise is determined, before the ledger counts it as begun. */
    async openPrivateStep(run, receipts, known, stepWorkflowId) {
      const opened = await ledger(known);
      for (const receipt of receipts) {
        // A key made for an entry that has begun would be another one: the same step would get other noise, uncounted.
        if ((await opened.entryState(receipt)) !== 'reserved') return headFor(run, opened);
      }
      await createNoiseKey(privateWorkFolder(receipts), receipts, stepWorkflowId);
      failpoint('attempt: keyed');
      return headFor(run, opened);
    },

    async commitPrivateStep(request, outcome) {
      const { receipts, nodeId, run } = request;
      const { commits, ledgerHead } = outcome;
      if (receipts.length === 0 || commits.length !== receipts.length) {
        throw new EpsilonflowError('RECEIPT_INVALID', `${nodeId} has not one thing to commit for each receipt.`);
      }
      const opened = await ledger(ledgerHead);
      // The folder is destroyed below, and with it what is known of records that the ledger may have lost.
      await requireRecords(opened, nodeId, receipts);
      for (const [index, receipt] of receipts.entries()) {
        const { token, proof } = commits[index]!;
        await opened.commit(receipt, token, proof);
      }
      failpoint('attempt: committed');
      const plan = await store.loadPlan(run.planDigest);
      await keepRun(parts, run);
      recordCompleted(plan, request, nodeOf(plan, nodeId), outcome);
      await offerLogs(parts, run);
      failpoint('attempt: told');
      await destroyWorkFolder(privateWorkFolder(receipts));
      await store.checkpoints?.drop(privateWorkFolder(receipts).id);
      return headFor(run, opened);
    },

    async closePrivateStep(_run, receipts) {
      await closeWorkFolder(privateWorkFolder(receipts));
      await store.checkpoints?.drop(privateWorkFolder(receipts).id);
    },
  };
}

interface KeptRecords {
  work: WorkFolder;
  counts: Map<string, number>;
  ownKeys: Record<string, string>;
}

/** Folders of the run's steps on this host, with what they know of their entries' records. */
async function keptRecordsOf({ workflowId }: RunIdentity): Promise<KeptRecords[]> {
  const own = (await privateWorkFolders()).filter((folder) => folder.workflowId === workflowId);
  return Promise.all(own.map(async ({ work, ownKeys }) => ({ work, ownKeys, counts: await keptRecordCounts(work) })));
}

async function hasRecords(ledger: Ledger, counts: Map<string, number>): Promise<boolean> {
  for (const [entryId, count] of counts) if ((await ledger.recordCount(entryId)) < count) return false;
  return true;
}

export function envelopeOf(
  plan: Plan,
  run: Pick<RunIdentity, 'workflowId' | 'name'>,
  nodeIds: readonly string[],
): Envelope {
  const wanted = new Set(nodeIds);
  const charged = plan.nodes.flatMap((node) =>
    wanted.has(node.id) ? chargesOf(node).map((charge) => ({ node, charge })) : [],
  );
  const accounts = new Set(charged.map(({ charge }) => accountOf(charge)));
  return {
    workflowId: run.workflowId,
    experiment: run.name,
    planDigest: plan.digest,
    accounts: [...accounts].map((account) => envelopeAccount(account, plan.datasets)),
    entries: charged.map(({ node, charge }) => envelopeEntry(node, charge, keyEpoch)),
  };
}
