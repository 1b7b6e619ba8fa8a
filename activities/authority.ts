/** @file The right to run a private step: ledger entries that were reserved for it, begun by this attempt. */

import {
  checkReceipts,
  headOf,
  isAnyClosed,
  proofDifference,
  type FencingToken,
  type KnownHead,
  type Ledger,
  keyLost,
} from '../privacy/ledger/index.ts';
import { destroyNoiseKey, keyFingerprint, readNoiseKey } from '../privacy/noise-key.ts';
import type { MechanismProof } from '../schemas/artifact.ts';
import { chargesOf } from '../schemas/charges.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import type { PlanNode } from '../schemas/plan.ts';
import type { StepReceipt } from './contract.ts';
import type { JobContext, StepOutput } from './job.ts';
import {
  destroyWorkFolder,
  hasNoiseKey,
  keepRecordCount,
  keptRecordCounts,
  privateWorkFolder,
  remakeNoiseKey,
} from './work-folder.ts';
import type { WorkerParts } from './worker-parts.ts';

/** The right to run a private node: its ledger entries, begun by this attempt, which fences earlier ones off. */
export interface Authority {
  /** One a charge, in the order of the node's charges, and its token beside it. */
  receipts: StepReceipt[];
  tokens: FencingToken[];
  /** Whether the step's noise key is there and its ledger entries are bound to it. */
  isKeyed: boolean;
  announceStep: JobContext['announceStep'];
  checkFence(): Promise<void>;
  /** Newest row of the ledger. */
  ledgerHead(): Promise<KnownHead>;
}

/**
 * @param known a row that the ledger must hold, now and at each announcement
 * @throws EpsilonflowError RECEIPT_INVALID, LEDGER_MISMATCH, LEDGER_ROLLED_BACK, NOISE_KEY_LOST
 */
export async function takeAuthority(
  parts: WorkerParts,
  node: PlanNode,
  receipts: StepReceipt[],
  attempt: number,
  known: KnownHead | null = null,
): Promise<Authority | null> {
  const charges = chargesOf(node);
  if (charges.length > 0 && receipts.length === 0) {
    throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} was started without a receipt for its mechanism.`, {
      hint: 'Private steps run only as part of an experiment, which reserves their budget first.',
    });
  }
  checkReceipts(receipts, node);
  if (receipts.length === 0) return null;
  const ledger = await parts.ledger(known);
  const work = privateWorkFolder(receipts);
  const records = await requireRecords(ledger, node.id, receipts);
  const { key, isRemade } = await keyOf(ledger, receipts);
  if (key === null) await requireBegun(ledger, node.id, receipts);
  const tokens: FencingToken[] = [];
  try {
    for (const receipt of receipts) {
      const fingerprint = key && keyFingerprint(key, receipt.entryId);
      tokens.push(await ledger.begin(receipt, attempt, fingerprint));
    }
  } catch (error) {
    if (isRemade) await destroyNoiseKey(work.noiseKeyFile);
    throw error;
  }
  // Committed since the key was asked for: what the commit destroyed may be there again.
  const isDone = tokens.some(({ state }) => state === 'committed');
  if (isDone) await destroyWorkFolder(work);
  failpoint('attempt: begun');
  return {
    receipts,
    tokens,
    isKeyed: key !== null && !isDone,
    announceStep: async (step, stateDigest, charge, batchSize) => {
      const place = charges.indexOf((charge === 'training' ? node.privacy : node.release)!);
      const receipt = receipts[place];
      if (!receipt) throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} has no receipt for its ${charge}.`);
      // Asked for anew: by now another file may lie in the place of the one that was opened.
      const present = await parts.ledger(known);
      const { records: count, isNew } = await present.recordStep(receipt, tokens[place]!, step, stateDigest, batchSize);
      const before = records.get(receipt.entryId) ?? 0;
      const others = isNew ? count - 1 : count;
      if (others < before) throw fewerRecords(node.id, others, before);
      if (count === before) return;
      await keepRecordCount(work, receipts, receipt, count);
      records.set(receipt.entryId, count);
    },
    checkFence: async () => {
      const present = await parts.ledger(known);
      for (const [place, receipt] of receipts.entries()) await present.checkFence(receipt, tokens[place]!);
    },
    ledgerHead: async () => headOf(await parts.ledger(known)),
  };
}

/** What the work folder knows of the entries' records. @throws EpsilonflowError LEDGER_ROLLED_BACK when the ledger has fewer */
export async function requireRecords(
  ledger: Ledger,
  nodeId: string,
  receipts: readonly StepReceipt[],
): Promise<Map<string, number>> {
  const known = await keptRecordCounts(privateWorkFolder(receipts));
  for (const receipt of receipts) {
    const before = known.get(receipt.entryId) ?? 0;
    if (before === 0) continue;
    const records = await ledger.recordCount(receipt.entryId);
    if (records < before) throw fewerRecords(nodeId, records, before);
  }
  return known;
}

/** Begun without its key an entry could not be given back: nobody would know that no other key recorded anything. */
async function requireBegun(ledger: Ledger, nodeId: string, receipts: readonly StepReceipt[]): Promise<void> {
  for (const receipt of receipts) {
    if ((await ledger.entryState(receipt)) === 'reserved') throw keyLost(nodeId, 'is gone');
  }
}

const fewerRecords = (nodeId: string, records: number, before: number): EpsilonflowError =>
  new EpsilonflowError(
    'LEDGER_ROLLED_BACK',
    `The privacy ledger has ${records} step records of ${nodeId} and had ${before}: it is an older copy.`,
    {
      hint:
        'Put the newest copy back. If it is lost, what was reserved for the step stays charged whole; ' +
        'run the spec again: the step starts anew, as a new ledger entry.',
    },
  );

/** The key of a step, made again where that is possible; null when it is gone, or needed no more. */
async function keyOf(ledger: Ledger, receipts: StepReceipt[]): Promise<{ key: Buffer | null; isRemade: boolean }> {
  if (await isAnyClosed(ledger, receipts)) return { key: null, isRemade: false };
  const work = privateWorkFolder(receipts);
  const wasThere = await hasNoiseKey(work);
  if (!wasThere) await remakeNoiseKey(work, receipts);
  const isThere = wasThere || (await hasNoiseKey(work));
  return { key: isThere ? await readNoiseKey(work.noiseKeyFile) : null, isRemade: isThere && !wasThere };
}

/**
 * What a step did for each charge of its node, in their order. The commit compares it again; here it keeps a wrong
 * result from becoming visible.
 *
 * @throws EpsilonflowError MECHANISM_MISMATCH
 */
export function checkedProofs(node: PlanNode, output: StepOutput): (MechanismProof | null)[] {
  return chargesOf(node).map((charge) => {
    const proof = (charge === node.privacy ? output.proof : output.releaseProof) ?? null;
    const difference = proofDifference(charge.mechanism, proof);
    if (difference === null) return proof;
    throw new EpsilonflowError(
      'MECHANISM_MISMATCH',
      `What ${node.id} did is not the mechanism that was reserved for it: ${difference}.`,
      {
        hint: 'Its result is not published. This is a fault of the step: please report it.',
      },
    );
  });
}
