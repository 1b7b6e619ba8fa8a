/**
 * @file The worker: takes workflow and activity tasks from Temporal until it is told to stop. Light activities come
 * from the control queue; jobs that fill the processor come from the cpu queue, few at a time.
 */

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createActivities } from '../activities/index.ts';
import { recoverDeadAttempts } from '../activities/recovery.ts';
import { stopRunningJobs } from '../activities/run-step.ts';
import type { WorkerParts } from '../activities/worker-parts.ts';
import { ledgerSecret } from '../privacy/ledger/index.ts';
import { sharedSecret } from '../privacy/shared-noise-key.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { writeDurably } from '../store/disk.ts';
import { openStore } from '../store/index.ts';
import { taskQueues } from '../workflows/task-queues.ts';
import { remembersLedgers } from './ledger-heads.ts';
import { ledgerUrl, sharedStoreUrl, stateRoot } from './paths.ts';
import { holdLedger } from './project-ledger.ts';
import { ensureMlflow, ensureTemporal } from './services.ts';
import { connectSettings, openConnection } from './temporal-connection.ts';
import { sourceDigest } from '../tracking/source-digest.ts';

export type QueueName = keyof typeof taskQueues;

export interface WorkerSettings {
  queues: readonly QueueName[];
  /** Jobs of the cpu queue at a time. */
  jobs: number;
  /** Called once tasks are taken; `recovered` are nodes whose attempts a dead worker had left. */
  onReady(info: { address: string; namespace: string; recovered: string[] }): void;
}

/** A running job has 30 s to write its checkpoint; what it reports then must still reach Temporal. */
const shutdownGraceTime = '45 seconds';

/**
 * Runs until SIGTERM or SIGINT; running jobs then write a checkpoint and go on in the next worker.
 *
 * @throws EpsilonflowError SERVICE_UNREACHABLE, LEDGER_ROLLED_BACK, ARGUMENT_INVALID for a secret that could be guessed
 */
export async function runWorker({ queues, jobs, onReady }: WorkerSettings): Promise<void> {
  requireSecret();
  const temporal = await ensureTemporal();
  Runtime.install({ logger: new DefaultLogger('WARN'), shutdownSignals: [] });
  const { connection, client } = await connect(temporal.address, temporal.namespace);
  const ledger = holdLedger();
  const parts = workerParts(ledger.use);
  // An older copy of the ledger is refused before any task is taken.
  if (remembersLedgers()) await parts.ledger();
  const recovered = await recoverDeadAttempts(client, parts);
  const activities = createActivities(parts);
  const shared = { connection, namespace: temporal.namespace, activities, shutdownGraceTime } as const;
  const workers: Worker[] = [];
  if (queues.includes('control')) {
    const workflowBundle = await cachedWorkflowBundle();
    workers.push(
      await Worker.create({
        ...shared,
        taskQueue: taskQueues.control,
        workflowBundle,
        maxConcurrentActivityTaskExecutions: 20,
        maxCachedWorkflows: 200,
      }),
    );
  }
  if (queues.includes('cpu')) {
    workers.push(
      await Worker.create({
        ...shared,
        taskQueue: taskQueues.cpu,
        maxConcurrentActivityTaskExecutions: jobs,
        // How soon a job hears that it is asked to stop.
        maxHeartbeatThrottleInterval: '2 seconds',
      }),
    );
  }
  const shutDown = (): void => {
    stopRunningJobs();
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  process.on('SIGTERM', shutDown);
  process.on('SIGINT', shutDown);
  const running = Promise.all(workers.map((worker) => worker.run()));
  onReady({ address: temporal.address, namespace: temporal.namespace, recovered });
  try {
    await running;
  } finally {
    process.off('SIGTERM', shutDown);
    process.off('SIGINT', shutDown);
    await connection.close();
    await client.connection.close();
    await ledger.close();
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
