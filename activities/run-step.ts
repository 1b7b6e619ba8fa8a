/**
 * @file The activity behind every step kind: makes sure that the step may run and is not done already, runs its code
 * in a process of its own, and publishes the result.
 */

import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { keyLost } from '../privacy/ledger/index.ts';
import type { OpenedArtifact } from '../schemas/artifact.ts';
import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { failpoint } from '../schemas/failpoints.ts';
import type { Plan, PlanNode, StepKind } from '../schemas/plan.ts';
import { isPaidBy } from '../store/index.ts';
import { doorOf, readsPrivate } from '../tracking/door.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { StepActivities, StepOutcome, StepReceipt, StepRequest } from './contract.ts';
import { stepError } from './errors.ts';
import { checkedProofs, takeAuthority, type Authority } from './authority.ts';
import { takeOverCheckpoint, whileSharing } from './checkpoint-sharing.ts';
import { JobCancelled, type JobInput, type StepOutput } from './job.ts';
import { clearProgress, writeProgress } from './live-progress.ts';
import { encodeProcess, thisProcess } from './process-identity.ts';
import { whileSendingLogs } from './log-sharing.ts';
import { openStepLog } from './step-log.ts';
import { located } from './step-queue.ts';
import { JobFailed, superviseJob } from './supervise-job.ts';
import {
  claimWorkFolder,
  countCrash,
  destroyWorkFolder,
  dropClaim,
  privateWorkFolder,
  publicWorkFolder,
  writeClaim,
  type WorkFolder,
} from './work-folder.ts';
import { logEvents, runDirectory, type WorkerParts } from './worker-parts.ts';

/** A step whose process dies by itself so often is given up: the next time would be no better. */
const mostCrashes = 3;

/** Jobs of this worker that are running; a worker that shuts down stops them. */
const running = new Set<AbortController>();
let shuttingDown = false;

/** How long a job may take to write its checkpoint and end, milliseconds: a step that is asked to stop, and all of them when the worker is. */
const stepGrace = 7_000;
const shutdownGrace = 30_000;

/** Asks every running job to write a checkpoint and end; their activities then fail in a way that is tried again. */
export function stopRunningJobs(): void {
  shuttingDown = true;
  for (const controller of running) controller.abort(shutdownGrace);
}

/** One activity type a step kind, so that Temporal's pages and limits tell them apart. */
export function createStepActivities(parts: WorkerParts): StepActivities {
  const run = (request: StepRequest): Promise<StepOutcome> =>
    whileSendingLogs(parts, request, () => inTurn(parts, () => runStep(parts, request)));
  return {
    pretrain: run,
    decontaminate: run,
    finetune: run,
    generate: run,
    'train-classifier': run,
    measure: run,
    compare: run,
  };
}

/** Does a step when there is a place for its job among those of its device. */
async function inTurn<T>({ slots }: WorkerParts, work: () => Promise<T>): Promise<T> {
  const activity = Context.current();
  const free = slots?.[activity.info.taskQueue.split('.')[0]!];
  if (!free) return work();
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  activity.cancellationSignal.addEventListener('abort', abort, { once: true });
  if (activity.cancellationSignal.aborted || shuttingDown) abort();
  running.add(controller);
  let giveBack: () => void;
  try {
    giveBack = await free.take(controller.signal);
  } catch {
    throw interruption(activity);
  } finally {
    running.delete(controller);
    activity.cancellationSignal.removeEventListener('abort', abort);
  }
  try {
    return await work();
  } finally {
    giveBack();
  }
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

export const nodeOf = (plan: Plan, id: string): PlanNode => {
  const node = lineageOf(plan).node(id);
  if (!node) throw new EpsilonflowError('INSTANCE_UNKNOWN', `The plan ${plan.digest.slice(0, 12)} holds no ${id}.`);
  return node;
};

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

async function superviseStep(
  plan: Plan,
  input: JobInput,
  request: StepRequest,
  work: WorkFolder,
  authority: Authority | null,
): Promise<StepOutput> {
  const { node } = input;
  const { run } = request;
  const activity = Context.current();
  const door = doorOf(plan, node);
  const logFile = await openStepLog(request.run, node);
  const controller = new AbortController();
  const abort = (): void => controller.abort(shuttingDown ? shutdownGrace : stepGrace);
  if (activity.cancellationSignal.aborted || shuttingDown) abort();
  activity.cancellationSignal.addEventListener('abort', abort, { once: true });
  running.add(controller);
  const free = (): Promise<void> => Promise.resolve();
  let written = '';
  try {
    return await superviseJob({
      input,
      logFile,
      signal: controller.signal,
      hooks: {
        started: (job) =>
          writeClaim(work, {
            worker: thisProcess(),
            job,
            taskToken: activity.info.base64TaskToken,
            nodeId: node.id,
            workflowId: run.workflowId,
            attempt: activity.info.attempt,
          }),
        alive: (progress) => {
          const told = progress && door.progress(progress);
          activity.heartbeat(told);
          // Private records: writing again what is there already would tell of each microbatch.
          const line = JSON.stringify(told);
          if (told && line !== written) writeProgress(runDirectory(run), node, told);
          written = line;
        },
        metrics: (points) =>
          logEvents(
            run,
            plan,
            points.map((point) => ({ type: 'metric', node: node.id, ...point })),
          ),
        announceStep: authority?.announceStep ?? free,
        checkFence: authority?.checkFence ?? free,
      },
    });
  } catch (error) {
    if (error instanceof JobFailed) throw stepError(error.fault, door, logFile);
    if (error instanceof JobCancelled) throw interruption(activity);
    if (error instanceof EpsilonflowError && ['JOB_CRASHED', 'OUT_OF_MEMORY'].includes(error.code)) {
      giveUpAfterCrashes(error, await countCrash(work, run.workflowId), logFile);
    }
    throw error;
  } finally {
    running.delete(controller);
    activity.cancellationSignal.removeEventListener('abort', abort);
  }
}

/** A stopped job is either cancelled for good, or its worker shuts down and another goes on. */
function interruption(activity: Context): Error {
  if (activity.cancellationSignal.aborted && !shuttingDown) return new CancelledFailure('The step was cancelled.');
  return ApplicationFailure.create({
    type: 'WORKER_STOPPED' satisfies ErrorCode,
    message: 'The worker was stopped; the step goes on from its checkpoint when a worker is there again.',
  });
}

function giveUpAfterCrashes(error: EpsilonflowError, crashes: number, logFile: string): void {
  if (crashes < mostCrashes) return;
  throw ApplicationFailure.create({
    type: error.code,
    nonRetryable: true,
    message: `${error.message} That was time number ${crashes}, so it is given up.`,
    details: [{ hint: `${errorCodes[error.code].remedy} Its log is ${logFile}, on the worker's host.` }],
  });
}

/** @throws EpsilonflowError INPUT_MISSING */
async function openInputs(parts: WorkerParts, plan: Plan, node: PlanNode): Promise<Record<string, OpenedArtifact[]>> {
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

function payersOf(inputs: Record<string, OpenedArtifact[]>, receipts: readonly StepReceipt[]): string[] {
  const behind = Object.values(inputs).flatMap((artifacts) =>
    artifacts.flatMap(({ manifest }) => manifest.paidBy ?? []),
  );
  return [...new Set([...behind, ...receipts.map(({ entryId }) => entryId)])].sort();
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
