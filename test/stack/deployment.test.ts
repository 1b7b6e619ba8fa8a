import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pinnedTo, takeNewRuns } from '../../stack/deployment.ts';
import { partsRoot } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { openTinyWorld, type TinyWorld } from '../orchestration/tiny-experiment.ts';

let world: TinyWorld;
let connection: NativeConnection;
let client: Client;
let address: string;
let workflowBundle: { code: string };
const workers: { worker: Worker; running: Promise<void> }[] = [];

beforeAll(async () => {
  world = await openTinyWorld({ train: 1, withModel: false });
  const logger = new DefaultLogger('ERROR');
  Runtime.install({ logger, shutdownSignals: [] });
  ({ address } = await ensureTemporal());
  connection = await NativeConnection.connect({ address });
  client = new Client({ connection: await Connection.connect({ address }) });
  const workflowsPath = fileURLToPath(new URL('waiting-workflow.ts', import.meta.url));
  workflowBundle = await bundleWorkflowCode({ workflowsPath, logger });
}, 120_000);

afterAll(async () => {
  for (const { worker } of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  await Promise.all(workers.map(({ running }) => running));
  await connection.close();
  await client.connection.close();
  await stopServices();
  world.remove();
});

/** A worker of a version; how it ends. */
async function startVersion(buildId: string): Promise<() => Promise<void>> {
  const workerDeploymentOptions = pinnedTo('lab', buildId);
  const worker = await Worker.create({ connection, taskQueue: 'versions', workflowBundle, workerDeploymentOptions });
  const running = worker.run();
  workers.push({ worker, running });
  return async () => {
    worker.shutdown();
    await running;
  };
}

/** A command of `docs/operations.md`. */
const temporal = (...parameters: string[]): string =>
  execFileSync(join(partsRoot, 'python', 'bin', 'temporal'), [...parameters, '--address', address], {
    encoding: 'utf8',
  });

const begin = (workflowId: string): Promise<WorkflowHandle> =>
  client.workflow.start('waiting', { workflowId, taskQueue: 'versions' });

async function versionOf(handle: WorkflowHandle): Promise<string | undefined> {
  for (;;) {
    const { raw } = await handle.describe();
    const { deploymentVersion } = raw.workflowExecutionInfo?.versioningInfo ?? {};
    if (deploymentVersion) return deploymentVersion.buildId ?? undefined;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

it('keeps a run with the version that began it, and gives new runs to the newest', async () => {
  const stopFirst = await startVersion('first');
  expect(await takeNewRuns(client, 'lab', 'first')).toBe(true);
  const old = await begin('old');
  expect(await versionOf(old)).toBe('first');

  await startVersion('second');
  expect(await takeNewRuns(client, 'lab', 'second')).toBe(true);
  const fresh = await begin('fresh');
  expect(await versionOf(fresh)).toBe('second');

  await stopFirst();
  await startVersion('first');
  expect(await takeNewRuns(client, 'lab', 'first')).toBe(false);
  expect(await versionOf(await begin('fresher'))).toBe('second');
  for (const handle of [old, fresh]) {
    await handle.signal('end');
    await handle.result();
  }
  expect(await versionOf(old)).toBe('first');
}, 120_000);

it('lets a run go on without its version, once someone moves it', async () => {
  const stopThird = await startVersion('third');
  expect(await takeNewRuns(client, 'lab', 'third')).toBe(true);
  const moved = await begin('moved');
  expect(await versionOf(moved)).toBe('third');
  await startVersion('fourth');
  expect(await takeNewRuns(client, 'lab', 'fourth')).toBe(true);
  expect(temporal('worker', 'deployment', 'describe', '--name', 'lab')).toContain('fourth');
  await stopThird();
  const query = 'TaskQueue="versions" AND ExecutionStatus="Running"';
  const override = ['--versioning-override-behavior', 'auto_upgrade', '--yes'];
  temporal('workflow', 'update-options', '--query', query, ...override);
  await moved.signal('end');
  await moved.result();
  expect(await versionOf(moved)).toBe('fourth');
}, 120_000);
