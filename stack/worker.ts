/**
 * @file The worker: takes workflow and activity tasks from Temporal until it is told to stop. Light activities come
 * from the control queue; jobs come from the queues of processor and card, few at a time, and where hosts share a store
 * from those of private data that are here.
 */

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client } from '@temporalio/client';
import {
  bundleWorkflowCode,
  DefaultLogger,
  NativeConnection,
  Runtime,
  Worker,
  type WorkerOptions,
} from '@temporalio/worker';
import { createActivities } from '../activities/index.ts';
import { JobSlots } from '../activities/job-slots.ts';
import { offerAllLogs } from '../activities/log-sharing.ts';
import { closeEndedSteps, recoverDeadAttempts } from '../activities/recovery.ts';
import { stopRunningJobs } from '../activities/step-process.ts';
import { dataQueue, type PlannedData } from '../activities/step-queue.ts';
import { troubles } from '../activities/troubles.ts';
import type { WorkerParts } from '../activities/worker-parts.ts';
import { ledgerSecret } from '../privacy/ledger/index.ts';
import { sharedSecret } from '../privacy/shared-noise-key.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { writeDurably } from '../store/disk.ts';
import { hostName } from '../store/host-name.ts';
import { openStore } from '../store/index.ts';
import { folderQueue, taskQueues } from '../workflows/task-queues.ts';
import { DataHere } from './data-here.ts';
import { pinnedTo, takeNewRuns } from './deployment.ts';
import { jobWorkerOptions } from './job-worker.ts';
import { remembersLedgers } from './ledger-heads.ts';
import { ledgerUrl, sharedStoreUrl, statePaths, stateRoot } from './paths.ts';
import { holdLedger } from './project-ledger.ts';
import { ensureMlflow, ensureTemporal } from './services.ts';
import { StepQueues } from './step-queues.ts';
import { connectSettings, openConnection } from './temporal-connection.ts';
import { sourceDigest } from '../tracking/source-digest.ts';

export type QueueName = keyof typeof taskQueues;

export interface WorkerSettings {
  queues: readonly QueueName[];
  /** Jobs of each device at a time. */
  jobs: number;
  /** Plans that were compiled on this host, for their data. */
  data?: readonly PlannedData[];
  /** Of the worker deployment that it is a version of; absent for a worker that goes on with runs of any version. */
  deployment?: string;
  /** Called once tasks are taken; `recovered` are nodes whose attempts a dead worker had left. */
  onReady(info: { address: string; namespace: string; queues: string[]; recovered: string[] }): void;
}

/** A running job has 30 s to write its checkpoint; what it reports then must still reach Temporal. */
const shutdownGraceTime = '45 seconds';

/** Activities of the control queue at a time. */
const lightWork = 20;

/** How often it is looked for runs that were started on this host, milliseconds. */
const lookEvery = 2_000;

/** How often logs that could not be sent are sent, milliseconds. */
const sendLogsEvery = 60_000;

/** How often keys and checkpoints of steps that ended elsewhere are looked for, milliseconds. */
const closeEvery = 60_000;

/**
 * Runs until SIGTERM or SIGINT; running jobs then write a checkpoint and go on in the next worker.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE, LEDGER_ROLLED_BACK, ARGUMENT_INVALID for a secret that could be guessed
 */
export async function runWorker({ queues, jobs, data = [], deployment, onReady }: WorkerSettings): Promise<void> {
  requireSecret();
  const temporal = await ensureTemporal();
  Runtime.install({ logger: new DefaultLogger('WARN'), shutdownSignals: [] });
  const { connection, client } = await connect(temporal.address, temporal.namespace);
  const ledger = holdLedger();
  const devices = queues.filter((queue) => queue !== 'control');
  const shown = workerParts(ledger.use);
  const dataHere = new DataHere(data, shown);
  const slots: WorkerParts['slots'] = Object.fromEntries(devices.map((device) => [device, new JobSlots(jobs)]));
  const parts: WorkerParts = { ...shown, dataHere: dataHere.plans, slots };
  // An older copy of the ledger is refused before any task is taken.
  if (remembersLedgers()) await parts.ledger();
  const recovered = await recoverDeadAttempts(client, parts);
  const shared = { connection, namespace: temporal.namespace, activities: createActivities(parts) };
  const create = workerMaker(shared, { jobs, slots }, deployment);
  const served = new StepQueues(create);
  const serveData = async (): Promise<void> => {
    await dataHere.look();
    await served.serve(devices.flatMap((device) => dataHere.names().map((name) => dataQueue(device, name))));
  };
  const closeEnded = (): Promise<void> => closeEndedSteps(client, parts.ledger);
  const stopped = new AbortController();
  const shutDown = (): void => {
    stopRunningJobs();
    stopped.abort();
    served.shutDown();
  };
  await served.serve(queues.map((queue) => taskQueues[queue]));
  if (queues.includes('control')) await served.serve([folderQueue(hostName(statePaths.owner()))]);
  if (deployment !== undefined && queues.includes('control')) await takeNewRuns(client, deployment);
  const hasDataQueues = sharedStoreUrl() !== null && devices.length > 0;
  if (hasDataQueues) await serveData();
  process.on('SIGTERM', shutDown);
  process.on('SIGINT', shutDown);
  onReady({ address: temporal.address, namespace: temporal.namespace, queues: served.names(), recovered });
  if (hasDataQueues) void repeat(unserved, serveData, lookEvery, stopped.signal);
  void troubles.watch(unsent, () => offerAllLogs(parts));
  void repeat(unsent, () => offerAllLogs(parts), sendLogsEvery, stopped.signal);
  void repeat(unclosed, closeEnded, closeEvery, stopped.signal);
  try {
    await served.ended;
  } finally {
    stopped.abort();
    process.off('SIGTERM', shutDown);
    process.off('SIGINT', shutDown);
    await connection.close();
    await client.connection.close();
    await ledger.close();
  }
}

/** Makes what takes the tasks of a queue. */
function workerMaker(
  shared: Pick<WorkerOptions, 'connection' | 'namespace' | 'activities'>,
  { jobs, slots }: { jobs: number; slots: NonNullable<WorkerParts['slots']> },
  deployment: string | undefined,
): (taskQueue: string) => Promise<Worker> {
  return async (taskQueue) => {
    const base = { ...shared, shutdownGraceTime, taskQueue };
    const places = slots[taskQueue.split('.')[0]!];
    if (places) return Worker.create({ ...base, ...jobWorkerOptions(places) });
    if (taskQueue !== taskQueues.control) {
      return Worker.create({ ...base, maxConcurrentActivityTaskExecutions: jobs });
    }
    return Worker.create({ ...base, ...(await controlOptions(deployment)) });
  };
}

async function controlOptions(deployment: string | undefined): Promise<Partial<WorkerOptions>> {
  return {
    workflowBundle: await cachedWorkflowBundle(),
    maxConcurrentActivityTaskExecutions: lightWork,
    maxCachedWorkflows: 200,
    // Activities of any version do the work of all: only workflow code is replayed.
    ...(deployment === undefined ? {} : { workerDeploymentOptions: pinnedTo(deployment) }),
  };
}

const unserved = 'Steps on private data of new runs are not taken here';
const unsent = 'Logs of runs are not sent';
const unclosed = 'Noise keys of steps that ended on other machines stay here';

/** What fails is told, and tried again at the next time. @param meaning of a failure, for people */
async function repeat(meaning: string, work: () => Promise<void>, every: number, stopped: AbortSignal): Promise<void> {
  while (!stopped.aborted) {
    await sleep(every, undefined, { signal: stopped }).catch(() => undefined);
    if (!stopped.aborted) await troubles.watch(meaning, work);
  }
}

/** Without the shared secret what is sealed in a shared store could not be read, nor noise keys be made again. */
function requireSecret(): void {
  if (sharedSecret() !== null || sharedStoreUrl() === null) return;
  throw new EpsilonflowError('ARGUMENT_INVALID', 'EPSILONFLOW_STORE_URL needs EPSILONFLOW_RUN_SECRET.', {
    hint: 'Give every worker and command the same 32 random bytes or more, for instance of: openssl rand -hex 32',
  });
}

async function connect(address: string, namespace: string): Promise<{ connection: NativeConnection; client: Client }> {
  try {
    const connection = await NativeConnection.connect(connectSettings(address));
    return { connection, client: new Client({ connection: await openConnection(address), namespace }) };
  } catch (error) {
    throw new EpsilonflowError('SERVICE_UNREACHABLE', `Temporal cannot be reached at ${address}.`, {
      hint: 'Start the local services with `epsilonflow up`, or correct the TEMPORAL_* settings.',
      cause: error,
    });
  }
}

const workerParts = (ledger: WorkerParts['ledger']): WorkerParts => ({
  store: openStore(),
  ledger,
  datasetSecret: async () => ledgerSecret(ledgerUrl()),
  trackerUri: async () => (await ensureMlflow())?.uri ?? null,
});

/** Bundling takes seconds; the bundle of the same code is kept. */
async function cachedWorkflowBundle(): Promise<{ codePath: string }> {
  const folder = join(stateRoot(), 'cache', 'workflows');
  const sdk = createRequire(import.meta.url)('@temporalio/worker/package.json') as { version: string };
  const codePath = join(folder, `${sdk.version}-${sourceDigest(['workflows', 'schemas']).slice(0, 32)}.js`);
  if (existsSync(codePath) && readFileSync(codePath).length > 0) return { codePath };
  const { code } = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../workflows/index.ts', import.meta.url)),
    logger: new DefaultLogger('WARN'),
  });
  mkdirSync(folder, { recursive: true });
  await writeDurably(codePath, code);
  return { codePath };
}
