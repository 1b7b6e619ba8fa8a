/**
 * @file A process that lives a part of an experiment: it registers, reserves, opens, trains, publishes, commits and
 * releases by the project's own functions, in the order of the workflow. Takes one life after another over IPC.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { checkedProofs, takeAuthority } from '../../activities/authority.ts';
import { createBudgetActivities } from '../../activities/budget.ts';
import type { RunIdentity, StepOutcome, StepReceipt } from '../../activities/contract.ts';
import type { JobContext, JobInput } from '../../activities/job.ts';
import { encodeProcess, thisProcess } from '../../activities/process-identity.ts';
import { noiseSecret, reservedMechanism } from '../../activities/reserved-mechanism.ts';
import { testCounts } from '../../activities/test-counts.ts';
import { trainingHooks } from '../../activities/training-hooks.ts';
import { claimWorkFolder, dropClaim, privateWorkFolder } from '../../activities/work-folder.ts';
import type { WorkerParts } from '../../activities/worker-parts.ts';
import { keyLost, ledgerSecret, type KnownHead } from '../../privacy/ledger/index.ts';
import type { OpenedArtifact } from '../../schemas/artifact.ts';
import { chargesOf } from '../../schemas/charges.ts';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { failpoint, watchFailpoints } from '../../schemas/failpoints.ts';
import type { Plan, PoissonGaussianMechanism } from '../../schemas/plan.ts';
import { ledgerUrl } from '../../stack/paths.ts';
import { holdLedger } from '../../stack/project-ledger.ts';
import { isPaidBy, openStore } from '../../store/index.ts';
import { doorOf } from '../../tracking/door.ts';
import { History } from './history.ts';
import { workflowIdOf, type Life, type LifeEnd } from './life.ts';
import { dataset, registrations, type ChaosNode } from './made-up-plan.ts';
import { trainSmall } from './small-training.ts';

/** Whether another process may have taken over: Temporal takes no more than the error of the activity under way. */
let hasSlept = false;

class Superseded extends Error {
  override readonly name = 'Superseded';
}

function mustBeAwake(): void {
  if (hasSlept) throw new Superseded();
}

interface LiveParts extends WorkerParts {
  close(): Promise<void>;
}

function openParts(): LiveParts {
  const ledger = holdLedger();
  return {
    store: openStore(),
    ledger: ledger.use,
    datasetSecret: () => ledgerSecret(ledgerUrl()),
    trackerUri: () => Promise.resolve(null),
    close: ledger.close,
  };
}

interface Step {
  life: Life;
  run: RunIdentity;
  plan: Plan;
  node: ChaosNode;
  receipts: StepReceipt[];
  ledgerHead: KnownHead;
}

/** As the activity of a step does it. */
async function runStep(parts: WorkerParts, step: Step): Promise<StepOutcome> {
  const { life, run, plan, node, receipts } = step;
  const { attempt } = life;
  const authority = (await takeAuthority(parts, node, receipts, attempt, step.ledgerHead))!;
  const outcome = async ({ manifest }: OpenedArtifact): Promise<StepOutcome> => ({
    key: node.key,
    metrics: doorOf(plan, node).metrics(manifest.metrics),
    seconds: 0,
    attempt,
    commits: authority.tokens.map((token, place) => ({ token, proof: manifest.charges?.[place]?.proof ?? null })),
    ledgerHead: await authority.ledgerHead(),
  });
  const paidBy = receipts.map(({ entryId }) => entryId).sort();
  const present = await parts.store.lookup(node.key);
  if (present && isPaidBy(present.manifest, paidBy)) return outcome(present);
  const own = privateWorkFolder(receipts);
  if (!authority.isKeyed) throw keyLost(node.id, 'is gone');
  const taskToken = `${run.workflowId}#${attempt}`;
  const work = await claimWorkFolder(own, { taskToken, nodeId: node.id, workflowId: run.workflowId, attempt });
  const { artifacts } = parts.store;
  const stage = await artifacts.stage(encodeProcess(thisProcess()), node.label);
  try {
    const input = {
      node,
      datasets: plan.datasets,
      models: {},
      artifacts: {},
      outputDirectory: stage.directory,
      checkpointDirectory: work.checkpointDirectory,
      noiseKeyFile: work.noiseKeyFile,
      datasetSecret: null,
    } as JobInput<'train-classifier'>;
    const context: JobContext = {
      stopping: false,
      progress: () => undefined,
      metric: () => undefined,
      breathe: () => Promise.resolve(),
      announceStep: authority.announceStep,
      checkFence: () => authority.checkFence(),
    };
    const people = plan.datasets[dataset]!;
    const { steps, clipNorm, expectedBatchSize, arithmetic } = node.privacy!.mechanism as PoissonGaussianMechanism;
    const stated = { epsilon: 1, steps, clip: clipNorm, batch: expectedBatchSize, arithmetic };
    const mechanism = reservedMechanism(input, people, stated) as PoissonGaussianMechanism;
    const interval = { steps: 10, seconds: 60 };
    const checkpoint = (): Promise<void> => Promise.resolve();
    const hooks = trainingHooks(context, { steps, dataset: people, mechanism, checkpoint, interval });
    const { proof, values } = await trainSmall({
      nodeKey: node.key,
      mechanismDigest: node.privacy!.digest,
      mechanism,
      key: (await noiseSecret(input)).key,
      checkpointDirectory: work.checkpointDirectory,
      fromAnotherState: life.fromAnotherState,
      beforeStep: hooks.beforeStep,
      checkFence: context.checkFence,
    });
    const exact = [0, 1].map((row) => [0, 1].map((column) => 10 + Math.round(8 * Math.sin(values[row * 2 + column]!))));
    const tested = node.release ? await testCounts(input, context, people, exact) : null;
    const text = JSON.stringify({ values, confusion: tested?.confusion ?? null });
    await writeFile(join(stage.directory, 'result.json'), text);
    await authority.checkFence();
    const output = { metrics: {}, proof, ...(tested?.releaseProof && { releaseProof: tested.releaseProof }) };
    const proofs = checkedProofs(node, output);
    const { key, kind, label, sensitivity, axes } = node;
    const artifact = await artifacts.publish(stage, {
      ...{ key, kind, label, sensitivity, axes },
      nodeId: node.id,
      metrics: {},
      summary: {},
      privacy: chargesOf(node),
      charges: receipts.map((receipt, place) => ({ ...receipt, proof: proofs[place] ?? null })),
      paidBy,
    });
    failpoint('attempt: published');
    return await outcome(artifact);
  } finally {
    await artifacts.discard(stage);
    await dropClaim(work, taskToken);
  }
}

type Activity = <T>(name: string, work: () => Promise<T>) => Promise<T>;

/** As the workflow of a run does it. */
async function live(life: Life): Promise<Omit<LifeEnd, 'reached'>> {
  const parts = openParts();
  const budget = createBudgetActivities(parts);
  const { experiment, planDigest } = life;
  const history = new History(life.history);
  const activity: Activity = (name, work) => history.activity(name, work, mustBeAwake);
  const run: RunIdentity = { name: experiment, number: 1, workflowId: workflowIdOf(experiment), planDigest };
  try {
    const plan = await parts.store.loadPlan(planDigest);
    await (await parts.ledger()).register(registrations(await parts.datasetSecret()));
    let ledgerHead: KnownHead | null = null;
    const end = await attempt(async () => {
      const reserved = await activity('reserve', () => budget.reserveBudget(run, life.nodeIds, null));
      ledgerHead = reserved.ledgerHead;
      for (const nodeId of life.nodeIds) {
        const node = plan.nodes.find(({ id }) => id === nodeId) as ChaosNode;
        const receipts = reserved.receipts.filter(({ nodeKey }) => nodeKey === node.key);
        ledgerHead = await runPrivateStep(activity, parts, budget, { life, run, plan, node, receipts, ledgerHead });
      }
    });
    await activity('release', () => budget.releaseBudget(run, ledgerHead));
    return end;
  } catch (error) {
    if (hasSlept) return { result: 'superseded', code: null, fault: null };
    const fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { result: 'failed', code: null, fault };
  } finally {
    await parts.close();
  }
}

async function runPrivateStep(
  activity: Activity,
  parts: WorkerParts,
  budget: ReturnType<typeof createBudgetActivities>,
  step: Step,
): Promise<KnownHead> {
  const { run, node, receipts } = step;
  try {
    const open = (): Promise<KnownHead> => budget.openPrivateStep(run, receipts, step.ledgerHead);
    const ledgerHead = await activity(`open ${node.id}`, open);
    const outcome = await activity(`run ${node.id}`, () => runStep(parts, { ...step, ledgerHead }));
    const request = { run, nodeId: node.id, receipts, ledgerHead };
    return await activity(`commit ${node.id}`, () => budget.commitPrivateStep(request, outcome));
  } catch (error) {
    if (hasSlept) throw error;
    await activity(`close ${node.id}`, () => budget.closePrivateStep(run, receipts));
    throw error;
  }
}

/** Ends that the project means to happen; anything else is a fault. */
async function attempt(work: () => Promise<void>): Promise<Omit<LifeEnd, 'reached'>> {
  try {
    await work();
    return { result: 'completed', code: null, fault: null };
  } catch (error) {
    if (hasSlept || !(error instanceof EpsilonflowError)) throw error;
    const { code } = error;
    if (code === 'BUDGET_REFUSED') return { result: 'refused', code, fault: null };
    if (code === 'NOISE_KEY_LOST' || code === 'FENCED') return { result: 'failed', code, fault: null };
    throw error;
  }
}

function watch({ dies }: Life, reached: Record<string, number>): void {
  hasSlept = false;
  watchFailpoints((boundary) => {
    const count = (reached[boundary] ?? 0) + 1;
    reached[boundary] = count;
    if (boundary !== dies?.boundary || count !== dies.count) return;
    hasSlept = dies.freezes;
    process.kill(process.pid, dies.freezes ? 'SIGSTOP' : 'SIGKILL');
  });
}

function setEnvironment({ home, ledgerUrl, spendingLog, runSecret }: Life): void {
  process.env['EPSILONFLOW_HOME'] = home;
  process.env['EPSILONFLOW_LEDGER_URL'] = ledgerUrl;
  process.env['EPSILONFLOW_SPENDING_LOG'] = spendingLog;
  if (runSecret === null) delete process.env['EPSILONFLOW_RUN_SECRET'];
  else process.env['EPSILONFLOW_RUN_SECRET'] = runSecret;
}

process.on('disconnect', () => process.exit(0));
process.on('message', (life: Life) => {
  const reached: Record<string, number> = {};
  setEnvironment(life);
  watch(life, reached);
  void live(life).then((end) => process.send!({ ...end, reached } satisfies LifeEnd));
});
process.send!('ready');
