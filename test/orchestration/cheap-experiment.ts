/**
 * @file Experiments of made-up nodes whose steps do nothing or what a test says, on a real Temporal server, with the
 * project's own workflows, control activities, store, event log and ledger.
 */

import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import type {
  ControlActivities,
  ExperimentResult,
  RunIdentity,
  RunLimits,
  StepActivities,
  StepOutcome,
  StepRequest,
} from '../../activities/contract.ts';
import { errorScopes } from '../../activities/error-scope.ts';
import { withMappedErrors } from '../../activities/errors.ts';
import { createActivities } from '../../activities/index.ts';
import { inTurn, JobSlots } from '../../activities/job-slots.ts';
import { recordCompleted } from '../../activities/run-step.ts';
import { nodeOf } from '../../activities/step-inputs.ts';
import { logEvents, type WorkerParts } from '../../activities/worker-parts.ts';
import { attributesOfRun } from '../../cli/search-attributes.ts';
import { limitsOf, workflowOptions } from '../../cli/start-run.ts';
import { jsonDigest } from '../../schemas/canonical-json.ts';
import { planDigest } from '../../schemas/plan-digest.ts';
import type { Scheduling } from '../../schemas/scheduling.ts';
import type { Plan, PlanNode, StepKind } from '../../schemas/plan.ts';
import { jobWorkerOptions } from '../../stack/job-worker.ts';
import { holdLedger } from '../../stack/project-ledger.ts';
import { statePaths } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { openStore } from '../../store/index.ts';
import type { Passed } from '../../tracking/door.ts';
import { readEvents, type RunEvent } from '../../tracking/events.ts';
import { claimRunNumber, writeRun } from '../../tracking/runs.ts';
import { taskQueues } from '../../workflows/task-queues.ts';
import { openTinyWorld } from './tiny-experiment.ts';

export interface MadeUpNode {
  id: string;
  needs?: string[];
  kind?: StepKind;
  /** Charged to a dataset of this name. */
  paidBy?: string;
  device?: 'gpu';
}

/** Called by each attempt of a step. */
export type CheapStep = (request: StepRequest) => Promise<void>;

export interface StartedExperiment {
  run: RunIdentity;
  result: Promise<ExperimentResult>;
  events(): RunEvent[];
}

export interface CheapWorld {
  client: Client;
  /**
   * Workers of both queues, until `stop` is called.
   *
   * @param instead in place of the project's own activities
   */
  work(step: CheapStep, concurrency?: number, instead?: Partial<ControlActivities>): Promise<{ stop(): Promise<void> }>;
  /** Workers of one host, whose queues share places for jobs, until `stop` is called. */
  takeJobs(queues: readonly string[], step: CheapStep, places?: number): Promise<{ stop(): Promise<void> }>;
  /** Saves the plan and takes a run's number. */
  claim(plan: Plan): Promise<RunIdentity>;
  start(plan: Plan, limits?: Partial<RunLimits>, scheduling?: Scheduling): Promise<StartedExperiment>;
  close(): Promise<void>;
}

export function madeUpPlan(name: string, nodes: readonly MadeUpNode[], failure: Plan['failure'] = 'continue'): Plan {
  const plan = {
    planVersion: 1,
    name,
    digest: '',
    spec: { file: `${name}.yaml`, profile: null },
    failure,
    waivers: [],
    datasets: {},
    models: {},
    nodes: nodes.map(planNode),
    privacy: {},
  } as unknown as Plan;
  return { ...plan, digest: planDigest(plan) };
}

const planNode = ({ id, needs = [], kind = 'generate', paidBy, device }: MadeUpNode): PlanNode =>
  ({
    id,
    slug: id.replaceAll(/[^a-z0-9]+/g, '-').replace(/-$/, ''),
    step: id.split('[')[0],
    kind,
    kindVersion: 1,
    key: jsonDigest(['made up', id]),
    axes: {},
    params: {},
    inputs: Object.fromEntries(needs.map((need) => [need, { nodes: [need] }])),
    needs,
    label: 'public',
    sensitivity: 'public',
    waivers: [],
    position: { file: 'made-up.yaml', line: 1, column: 1 },
    cached: null,
    ...(device && { device }),
    ...(paidBy && { privacy: { dataset: paidBy, mechanism: { kind: 'dp-sgd' }, digest: 'made up' } }),
  }) as unknown as PlanNode;

/** Does what the activity of a step does before and after its work, without store and process. */
function stepActivities(parts: WorkerParts, step: CheapStep): StepActivities {
  const perform = async (request: StepRequest): Promise<StepOutcome> => {
    const plan = await parts.store.loadPlan(request.run.planDigest);
    const node = nodeOf(plan, request.nodeId);
    logEvents(request.run, plan, [{ type: 'node-started', time: Date.now(), node: node.id, attempt: 1 }]);
    await step(request);
    const metrics = {} as Passed<Record<string, number>>;
    const outcome = { key: node.key, metrics, seconds: 0, attempt: 1, commits: [], ledgerHead: null };
    recordCompleted(plan, request, node, outcome);
    return outcome;
  };
  const run = (request: StepRequest): Promise<StepOutcome> => inTurn(parts.slots, () => perform(request));
  return {
    pretrain: run,
    decontaminate: run,
    audit: run,
    finetune: run,
    generate: run,
    'train-classifier': run,
    measure: run,
    compare: run,
  };
}

/** @param workflowsPath of a file that exports all workflows */
export async function openCheapWorld(
  workflowsPath = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url)),
): Promise<CheapWorld> {
  const world = await openTinyWorld({ train: 1, withModel: false });
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger, shutdownSignals: [] });
  const bundle = await bundleWorkflowCode({ workflowsPath, logger });
  const { address } = await ensureTemporal();
  const connection = await NativeConnection.connect({ address });
  const client = new Client({ connection: await Connection.connect({ address }) });
  const ledger = holdLedger();
  const parts: WorkerParts = {
    store: openStore(),
    ledger: ledger.use,
    datasetSecret: () => Promise.reject(new Error('No private data here')),
    trackerUri: () => Promise.resolve(null),
  };
  const claim = async (plan: Plan): Promise<RunIdentity> => {
    await parts.store.savePlan(plan);
    const number = claimRunNumber(plan.name);
    const run = { name: plan.name, number, workflowId: `${plan.name}/${number}-test`, planDigest: plan.digest };
    writeRun({ ...run, specFile: plan.spec.file, startedAt: new Date().toISOString() }, '');
    return run;
  };
  const runAll = (workers: readonly Worker[]): { stop(): Promise<void> } => {
    const running = Promise.all(workers.map((worker) => worker.run()));
    return {
      stop: async () => {
        for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
        await running;
      },
    };
  };
  return {
    client,
    claim,
    takeJobs: async (queues, step, count = 1) => {
      const places = new JobSlots(count);
      const activities = withMappedErrors(
        stepActivities({ ...parts, slots: { cpu: places } }, step),
        errorScopes(parts),
      );
      // On one connection only one worker may serve a queue.
      const own = await NativeConnection.connect({ address });
      const options = {
        connection: own,
        activities,
        ...jobWorkerOptions(places),
        shutdownForceTime: '10 seconds',
      } as const;
      const { stop } = runAll(await Promise.all(queues.map((taskQueue) => Worker.create({ ...options, taskQueue }))));
      return {
        stop: async () => {
          await stop();
          await own.close();
        },
      };
    },
    work: async (step, concurrency = 20, instead = {}) => {
      const activities: ControlActivities & StepActivities = {
        ...createActivities(parts),
        ...instead,
        ...withMappedErrors(stepActivities(parts, step), errorScopes(parts)),
      };
      const shared = {
        connection,
        activities,
        maxConcurrentActivityTaskExecutions: concurrency,
        // How soon a step hears that it is cancelled.
        maxHeartbeatThrottleInterval: '200 milliseconds',
        shutdownForceTime: '10 seconds',
      } as const;
      return runAll([
        await Worker.create({ ...shared, taskQueue: taskQueues.control, workflowBundle: bundle }),
        await Worker.create({ ...shared, taskQueue: taskQueues.cpu }),
      ]);
    },
    start: async (plan, limits = {}, scheduling = {}) => {
      const run = await claim(plan);
      const record = { ...run, specFile: plan.spec.file, startedAt: '', scheduling };
      const handle = await client.workflow.start('experimentWorkflow', {
        ...workflowOptions(record, plan, await attributesOfRun(client, plan)),
        args: [run, null, { ...limits, ...limitsOf(record) }],
        taskQueue: taskQueues.control,
      });
      const result = handle.result() as Promise<ExperimentResult>;
      result.catch(() => undefined);
      return { run, result, events: () => readEvents(statePaths.run(run.name, run.number)).events };
    },
    close: async () => {
      await connection.close();
      await client.connection.close();
      await ledger.close();
      await stopServices();
      world.remove();
    },
  };
}
