/**
 * @file The activity behind every step kind: makes sure that the step may run and is not done already, runs its code
 * in a process of its own, and publishes the result.
 */

import { Context } from '@temporalio/activity';
import { keyLost } from '../privacy/ledger/index.ts';
import type { OpenedArtifact } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import type { Plan, PlanNode, StepKind } from '../schemas/plan.ts';
import { isPaidBy } from '../store/index.ts';
import { doorOf, readsPrivate } from '../tracking/door.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { StepActivities, StepOutcome, StepRequest } from './contract.ts';
import { checkedProofs, takeAuthority, type Authority } from './authority.ts';
import { takeOverCheckpoint, whileSharing } from './checkpoint-sharing.ts';
import type { JobInput } from './job.ts';
import { inTurn } from './job-slots.ts';
import { clearProgress } from './live-progress.ts';
import { encodeProcess, thisProcess } from './process-identity.ts';
import { whileSendingLogs } from './log-sharing.ts';
import { nodeOf, openInputs, payersOf } from './step-inputs.ts';
import { superviseStep } from './step-process.ts';
import { located } from './step-queue.ts';
import {
  claimWorkFolder,
  destroyWorkFolder,
  dropClaim,
  privateWorkFolder,
  publicWorkFolder,
  type WorkFolder,
} from './work-folder.ts';
import { logEvents, runDirectory, type WorkerParts } from './worker-parts.ts';

/** One activity type a step kind, so that Temporal's pages and limits tell them apart. */
export function createStepActivities(parts: WorkerParts): StepActivities {
  const run = (request: StepRequest): Promise<StepOutcome> =>
    inTurn(parts.slots, () => whileSendingLogs(parts, request, () => runStep(parts, request)));
  return {
    pretrain: run,
    decontaminate: run,
    finetune: run,
    generate: run,
    'train-classifier': run,
    measure: run,
    audit: run,
    compare: run,
  };
}

/**
 * @throws EpsilonflowError RECEIPT_INVALID, FENCED, NOISE_KEY_LOST, INPUT_MISSING, JOB_CRASHED, OUT_OF_MEMORY, DISK_FULL, or what the
 *   step's code throws
 */
async function runStep(parts: WorkerParts, request: StepRequest): Promise<StepOutcome> {
  const startedAt = Date.now();
  const attempt = Context.current().info.attempt + (request.pauses ?? 0);
  const plan = await parts.store.loadPlan(request.run.planDigest);
  const node = nodeOf(plan, request.nodeId);
  const authority = await takeAuthority(parts, node, request.receipts, attempt, request.ledgerHead);
  const outcome = async (artifact: OpenedArtifact): Promise<StepOutcome> => ({
    key: node.key,
    metrics: doorOf(plan, node).metrics(artifact.manifest.metrics),
    seconds: (Date.now() - startedAt) / 1000,
    attempt,
    commits: (authority?.tokens ?? []).map((token, place) => ({
      token,
      proof: artifact.manifest.charges?.[place]?.proof ?? null,
    })),
    ledgerHead: (await authority?.ledgerHead()) ?? null,
  });
  // An earlier attempt may have ended between publishing and reporting: nothing is run twice.
  const inputs = await openInputs(parts, plan, node);
  const paidBy = payersOf(inputs, request.receipts);
  const present = await parts.store.lookup(node.key);
  if (present && isPaidBy(present.manifest, paidBy)) {
    const result = await outcome(present);
    if (!authority) recordCompleted(plan, request, node, result);
    return result;
  }
  logEvents(request.run, plan, [{ type: 'node-started', time: startedAt, node: node.id, attempt }]);
  const work = await takeWorkFolder(node, request, authority, attempt);
  try {
    await takeOverCheckpoint(parts, work, request);
    const artifact = await executeStep(parts, { plan, node, inputs, paidBy }, request, work, authority);
    const result = await outcome(artifact);
    if (authority) failpoint('attempt: published');
    else {
      recordCompleted(plan, request, node, result);
      await destroyWorkFolder(work);
      await parts.store.checkpoints?.drop(work.id);
    }
    return result;
  } finally {
    await dropClaim(work, Context.current().info.base64TaskToken);
    clearProgress(runDirectory(request.run), node.slug);
  }
}

async function takeWorkFolder(
  node: PlanNode,
  { run }: StepRequest,
  authority: Authority | null,
  attempt: number,
): Promise<WorkFolder> {
  if (authority && !authority.isKeyed) throw keyLost(node.id, 'is gone');
  const own = authority ? privateWorkFolder(authority.receipts) : publicWorkFolder(node.key);
  return claimWorkFolder(own, {
    taskToken: Context.current().info.base64TaskToken,
    nodeId: node.id,
    workflowId: run.workflowId,
    attempt,
  });
}

interface ReadyStep {
  plan: Plan;
  node: PlanNode;
  inputs: Record<string, OpenedArtifact[]>;
  /** Ids of the ledger entries behind the result. */
  paidBy: string[];
}

async function executeStep(
  parts: WorkerParts,
  { plan, node, inputs, paidBy }: ReadyStep,
  request: StepRequest,
  work: WorkFolder,
  authority: Authority | null,
): Promise<OpenedArtifact> {
  const { artifacts } = parts.store;
  const stage = await artifacts.stage(encodeProcess(thisProcess()), node.label);
  try {
    const input: JobInput = {
      node,
      ...located(plan, parts.dataHere ?? []),
      artifacts: inputs,
      outputDirectory: stage.directory,
      checkpointDirectory: work.checkpointDirectory,
      noiseKeyFile: authority ? work.noiseKeyFile : null,
      datasetSecret: readsPrivate(plan, node) ? (await parts.datasetSecret()).toString('hex') : null,
    };
    const hooks = { told: (failure: unknown) => logSharing(plan, request, failure) };
    const output = await whileSharing(parts.store.checkpoints, work, authority, hooks, () =>
      superviseStep(plan, input, request, work, authority),
    );
    await authority?.checkFence();
    const proofs = checkedProofs(node, output);
    const charges = authority?.receipts.map((receipt, place) => ({ ...receipt, proof: proofs[place] ?? null }));
    return await artifacts.publish(stage, {
      key: node.key,
      kind: node.kind,
      label: node.label,
      sensitivity: node.sensitivity,
      nodeId: node.id,
      axes: node.axes,
      ...doorOf(plan, node).figures({ metrics: output.metrics, summary: output.summary ?? {} }),
      privacy: lineageOf(plan)
        .privacyBehind(node.id)
        .map(({ privacy }) => privacy),
      ...(charges ? { charges } : {}),
      paidBy,
    });
  } finally {
    await artifacts.discard(stage);
  }
}

/** @param failure why a checkpoint could not be sent to other hosts; null once one was sent again */
function logSharing(plan: Plan, { run, nodeId: node }: StepRequest, failure: unknown): void {
  const time = Date.now();
  const code = failure instanceof EpsilonflowError ? failure.code : 'Error';
  logEvents(run, plan, [
    failure === null ? { type: 'checkpoint-sent', time, node } : { type: 'checkpoint-unsent', time, node, code },
  ]);
}

export function recordCompleted(
  plan: Plan,
  request: StepRequest,
  node: PlanNode<StepKind>,
  outcome: StepOutcome,
): void {
  const { key, metrics, seconds, attempt } = outcome;
  const ledgerEntries = request.receipts.map(({ entryId }) => entryId);
  logEvents(request.run, plan, [
    {
      type: 'node-completed',
      time: Date.now(),
      node: node.id,
      key,
      reused: false,
      metrics,
      seconds,
      attempt,
      ledgerEntries,
    },
  ]);
}
