/**
 * @file The activity behind every step kind: makes sure that the step may run and is not done already, runs its code
 * in a process of its own, and publishes the result.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { FencingToken } from '../privacy/ledger/index.ts';
import type { ArtifactCharge, MechanismProof, OpenedArtifact } from '../schemas/artifact.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { Plan, PlanNode, StepKind } from '../schemas/plan.ts';
import { makePrivateFolder } from '../store/disk.ts';
import { statePaths } from '../stack/paths.ts';
import { doorOf } from '../tracking/door.ts';
import { appendEvents } from '../tracking/events.ts';
import type { StepActivities, StepOutcome, StepReceipt, StepRequest } from '../workflows/contract.ts';
import { stepError } from './errors.ts';
import { failpoint } from './failpoints.ts';
import { JobCancelled, type JobInput, type StepOutput } from './job.ts';
import { clearProgress, writeProgress } from './live-progress.ts';
import { encodeProcess, thisProcess } from './process-identity.ts';
import { JobFailed, superviseJob } from './supervise-job.ts';
import {
  claimWorkFolder,
  countCrash,
  destroyWorkFolder,
  dropClaim,
  hasNoiseKey,
  privateWorkFolder,
  publicWorkFolder,
  writeClaim,
  type WorkFolder,
} from './work-folder.ts';
import { runDirectory, type WorkerParts } from './worker-parts.ts';

/** A step whose process dies by itself so often is given up: the next time would be no better. */
const mostCrashes = 3;

/** Jobs of this worker that are running; a worker that shuts down stops them. */
const running = new Set<AbortController>();
let shuttingDown = false;

/** Asks every running job to write a checkpoint and end; their activities then fail in a way that is tried again. */
export function stopRunningJobs(): void {
  shuttingDown = true;
  for (const controller of running) controller.abort();
}

/** One activity type a step kind, so that Temporal's pages and limits tell them apart. */
export function createStepActivities(parts: WorkerParts): StepActivities {
  const run = (request: StepRequest): Promise<StepOutcome> => runStep(parts, request);
  return { pretrain: run, finetune: run, generate: run, 'train-classifier': run, compare: run };
}

/**
 * @throws EpsilonflowError RECEIPT_INVALID, FENCED, NOISE_KEY_LOST, INPUT_MISSING, JOB_CRASHED, DISK_FULL, or what the
 *   step's code throws
 */
async function runStep(parts: WorkerParts, request: StepRequest): Promise<StepOutcome> {
  const startedAt = Date.now();
  const { attempt } = Context.current().info;
  const plan = await parts.store.loadPlan(request.run.planDigest);
  const node = nodeOf(plan, request.nodeId);
  const authority = await takeAuthority(parts, node, request.receipt, attempt);
  const outcome = (artifact: OpenedArtifact): StepOutcome => ({
    key: node.key,
    metrics: doorOf(plan, node).metrics(artifact.manifest.metrics),
    seconds: (Date.now() - startedAt) / 1000,
    attempt,
    commit: authority && { token: authority.token, proof: artifact.manifest.charge?.proof ?? null },
  });
  // An earlier attempt may have ended between publishing and reporting: nothing is run twice.
  const present = await parts.store.lookup(node.key);
  if (present && present.manifest.charge?.entryId === request.receipt?.entryId) {
    if (!authority) recordCompleted(request, node, outcome(present));
    return outcome(present);
  }
  appendEvents(runDirectory(request.run), [{ type: 'node-started', time: startedAt, node: node.id, attempt }]);
  const work = await takeWorkFolder(node, request, attempt);
  try {
    const artifact = await executeStep(parts, plan, node, request, work, authority);
    const result = outcome(artifact);
    if (authority) failpoint('published');
    else {
      recordCompleted(request, node, result);
      await destroyWorkFolder(work);
    }
    return result;
  } finally {
    await dropClaim(work);
    clearProgress(runDirectory(request.run), node.slug);
  }
}

const nodeOf = (plan: Plan, id: string): PlanNode => {
  const node = plan.nodes.find((candidate) => candidate.id === id);
  if (!node) throw new EpsilonflowError('INSTANCE_UNKNOWN', `The plan ${plan.digest.slice(0, 12)} holds no ${id}.`);
  return node;
};

/** The right to run a private node: its ledger entry, begun by this attempt, which fences earlier ones off. */
interface Authority {
  receipt: StepReceipt;
  token: FencingToken;
  announceStep(step: number): Promise<void>;
  checkFence(): Promise<void>;
}

async function takeAuthority(
  parts: WorkerParts,
  node: PlanNode,
  receipt: StepReceipt | null,
  attempt: number,
): Promise<Authority | null> {
  if (!node.privacy) {
    if (receipt)
      throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} spends no privacy, yet was given a receipt.`);
    return null;
  }
  if (!receipt || receipt.nodeKey !== node.key || receipt.mechanismDigest !== node.privacy.digest) {
    throw new EpsilonflowError('RECEIPT_INVALID', `${node.id} was started without a receipt for its mechanism.`, {
      hint: 'Private steps run only as part of an experiment, which reserves their budget first.',
    });
  }
  const ledger = await parts.ledger();
  const token = await ledger.begin(receipt, attempt);
  failpoint('begun');
  return {
    receipt,
    token,
    announceStep: (step) => ledger.recordStep(receipt, token, step),
    checkFence: () => ledger.checkFence(receipt, token),
  };
}

async function takeWorkFolder(node: PlanNode, request: StepRequest, attempt: number): Promise<WorkFolder> {
  const { receipt, run } = request;
  if (receipt && !(await hasNoiseKey(privateWorkFolder(receipt)))) {
    throw new EpsilonflowError('NOISE_KEY_LOST', `The noise key of ${node.id} is gone, so it cannot go on.`, {
      hint: 'What was reserved for it stays charged. Run the spec again: the step starts anew, as a new ledger entry.',
    });
  }
  return claimWorkFolder(receipt ? privateWorkFolder(receipt) : publicWorkFolder(node.key), {
    taskToken: Context.current().info.base64TaskToken,
    nodeId: node.id,
    workflowId: run.workflowId,
    attempt,
  });
}

async function executeStep(
  parts: WorkerParts,
  plan: Plan,
  node: PlanNode,
  request: StepRequest,
  work: WorkFolder,
  authority: Authority | null,
): Promise<OpenedArtifact> {
  const { artifacts } = parts.store;
  const stage = await artifacts.stage(encodeProcess(thisProcess()), node.label);
  try {
    const input: JobInput = {
      node,
      datasets: plan.datasets,
      models: plan.models,
      artifacts: await openInputs(parts, plan, node),
      outputDirectory: stage.directory,
      checkpointDirectory: work.checkpointDirectory,
      noiseKeyFile: authority ? work.noiseKeyFile : null,
    };
    const output = await superviseStep(input, request, work, authority);
    await authority?.checkFence();
    if (node.privacy) checkProof(node, output.proof ?? null);
    const charge: ArtifactCharge | null = authority && { ...authority.receipt, proof: output.proof ?? null };
    return await artifacts.publish(stage, {
      key: node.key,
      kind: node.kind,
      label: node.label,
      sensitivity: node.sensitivity,
      nodeId: node.id,
      axes: node.axes,
      metrics: output.metrics,
      summary: output.summary ?? {},
      privacy: lineagePrivacy(plan, node),
      ...(charge ? { charge } : {}),
    });
  } finally {
    await artifacts.discard(stage);
  }
}

/** The commit compares this again; here it keeps a wrong result from becoming visible. */
function checkProof(node: PlanNode, proof: MechanismProof | null): void {
  const mechanism = node.privacy!.mechanism;
  const agrees =
    mechanism.kind === 'unbounded'
      ? proof === null
      : proof !== null &&
        (['samplingProbability', 'noiseMultiplier', 'clipNorm', 'steps'] as const).every(
          (name) => proof[name] === mechanism[name],
        );
  if (agrees) return;
  throw new EpsilonflowError(
    'MECHANISM_MISMATCH',
    `What ${node.id} did is not the mechanism that was reserved for it.`,
    {
      hint: 'Its result is not published. This is a fault of the step: please report it.',
    },
  );
}

async function superviseStep(
  input: JobInput,
  request: StepRequest,
  work: WorkFolder,
  authority: Authority | null,
): Promise<StepOutput> {
  const { node } = input;
  const { run } = request;
  const activity = Context.current();
  const isPrivate = node.sensitivity === 'private';
  const door = doorOf(input, node);
  const logFile = await openLog(request, node);
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  if (activity.cancellationSignal.aborted || shuttingDown) abort();
  activity.cancellationSignal.addEventListener('abort', abort, { once: true });
  running.add(controller);
  const free = (): Promise<void> => Promise.resolve();
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
          activity.heartbeat(progress);
          if (progress) writeProgress(runDirectory(run), node, progress);
        },
        metrics: (points) =>
          appendEvents(
            runDirectory(run),
            points.filter(({ name }) => door.curve(name)).map((point) => ({ type: 'metric', node: node.id, ...point })),
          ),
        announceStep: authority?.announceStep ?? free,
        checkFence: authority?.checkFence ?? free,
      },
    });
  } catch (error) {
    if (error instanceof JobFailed) throw stepError(error.fault, isPrivate, logFile);
    if (error instanceof JobCancelled) throw interruption(activity);
    if (error instanceof EpsilonflowError && error.code === 'JOB_CRASHED')
      await giveUpAfterCrashes(error, work, logFile);
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
    type: 'WORKER_STOPPED',
    message: 'The worker was stopped; the step goes on from its checkpoint when a worker is there again.',
  });
}

async function giveUpAfterCrashes(error: EpsilonflowError, work: WorkFolder, logFile: string): Promise<void> {
  const crashes = await countCrash(work);
  if (crashes < mostCrashes) return;
  throw new EpsilonflowError('STEP_FAILED', `${error.message} That was time number ${crashes}, so it is given up.`, {
    hint: `Its log is ${logFile}, on the worker's host. If memory ran out, lower the step's batch or sequence.`,
    cause: error,
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

/** Privacy behind a node's content: of its own mechanism and of everything that it was computed from. */
function lineagePrivacy(plan: Plan, node: PlanNode): NonNullable<PlanNode['privacy']>[] {
  const byId = new Map(plan.nodes.map((candidate) => [candidate.id, candidate]));
  const found = new Map<string, NonNullable<PlanNode['privacy']>>();
  const seen = new Set<string>();
  const queue = [node];
  for (let next = queue.pop(); next; next = queue.pop()) {
    if (seen.has(next.id)) continue;
    seen.add(next.id);
    if (next.privacy) found.set(next.key, next.privacy);
    for (const input of Object.values(next.inputs)) {
      if ('nodes' in input) queue.push(...input.nodes.flatMap((id) => byId.get(id) ?? []));
    }
  }
  return [...found.values()];
}

export function recordCompleted(request: StepRequest, node: PlanNode<StepKind>, outcome: StepOutcome): void {
  const { key, metrics, seconds, attempt } = outcome;
  const ledgerEntries = request.receipt ? [request.receipt.entryId] : [];
  appendEvents(runDirectory(request.run), [
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

async function openLog({ run }: StepRequest, node: PlanNode): Promise<string> {
  await makePrivateFolder(statePaths.privateStore());
  const folder = stepLogFolder(run.name, run.number);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return join(folder, `${node.slug}.log`);
}

/** Logs of a run's steps, one file an instance; private, for a stack trace may quote a record. */
export const stepLogFolder = (name: string, number: number): string =>
  join(statePaths.privateStore(), 'logs', name, String(number));
