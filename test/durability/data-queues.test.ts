import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AwaitedWorker } from '../../cli/awaited-workers.ts';
import { dataNames } from '../../activities/step-queue.ts';
import type { Plan } from '../../schemas/plan.ts';
import { packageRoot } from '../../stack/paths.ts';
import { ensureTemporal, stopServices } from '../../stack/services.ts';
import { readEvents } from '../../tracking/events.ts';
import {
  epsilonflow,
  epsilonflowJson,
  generatorStep,
  openTinyWorld,
  specHead,
  syntheticStep,
  type TinyWorld,
} from '../orchestration/tiny-experiment.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { startPostgres, type PostgresServer } from '../postgres-server.ts';
import { requires } from '../requires.ts';

const spec = `${specHead('located', { epsilon: 20, sensitivity: 'private' })}
steps:
${generatorStep({ epsilon: 4, steps: 4 })}
${syntheticStep('device: gpu')}
`;

interface Status {
  status: string;
  workflowId: string;
  planDigest: string;
  directory: string;
  counts: Record<string, number>;
  awaitedWorkers: AwaitedWorker[];
}

const isRunnable = (['object-storage', 'postgres'] as const)
  .map((name) => requires(name, 'private data on another host'))
  .every(Boolean);

describe.runIf(isRunnable)('a host that keeps the runs, and one that has the data', () => {
  /** Where runs are started, by a worker of the queue control alone. */
  let world: TinyWorld;
  /** With the same records in another place. */
  let other: TinyWorld;
  /** With a card, as it says, and no data. */
  let without: TinyWorld;
  let postgres: PostgresServer;
  let objectServer: ObjectServer;
  let client: Client;
  const workers: ChildProcess[] = [];

  async function startWorker(on: TinyWorld, ...parameters: string[]): Promise<void> {
    const log = openSync(join(on.folder, 'worker.log'), 'a');
    const program = join(packageRoot, 'cli', 'epsilonflow.mjs');
    const worker = spawn(process.execPath, [program, 'worker', ...parameters], {
      cwd: on.folder,
      env: on.environment,
      stdio: ['ignore', log, log],
    });
    workers.push(worker);
    const record = join(on.environment['EPSILONFLOW_HOME']!, 'services', 'worker.json');
    await until('the worker is ready', () => Promise.resolve(existsSync(record)));
  }

  beforeAll(async () => {
    world = await openTinyWorld({ train: 300, withModel: true });
    const [{ address }, server, database] = await Promise.all([ensureTemporal(), startObjectServer(), startPostgres()]);
    [objectServer, postgres] = [server, database];
    const shared = {
      ...objectServer.environment,
      TEMPORAL_ADDRESS: address,
      EPSILONFLOW_LEDGER_URL: await postgres.createDatabase(),
      EPSILONFLOW_STORE_URL: 's3://results/lab',
      EPSILONFLOW_RUN_SECRET: 'a secret that the two hosts of this test share',
    };
    const hostAt = (name: string): TinyWorld => {
      const folder = join(world.folder, name);
      mkdirSync(folder);
      return { ...world, folder, environment: { ...world.environment, EPSILONFLOW_HOME: join(folder, 'home') } };
    };
    world = { ...world, environment: { ...process.env, ...world.environment, ...shared } };
    [other, without] = [hostAt('other'), hostAt('without')];
    for (const name of ['train.jsonl', 'test.jsonl', 'base']) {
      cpSync(join(world.folder, name), join(other.folder, name), { recursive: true });
    }
    client = new Client({ connection: await Connection.connect({ address }) });
  }, 180_000);

  afterAll(async () => {
    for (const worker of workers) worker.kill('SIGKILL');
    await client?.connection.close();
    await stopServices();
    await postgres?.remove();
    await objectServer?.remove();
    world?.remove();
  });

  const status = (): Promise<Status> => epsilonflowJson<Status>(world, 'status', 'located/1');

  async function pollersOf(queue: string): Promise<number> {
    const { pollers } = await client.workflowService.describeTaskQueue({
      namespace: 'default',
      taskQueue: { name: queue },
      taskQueueType: 2,
    });
    return pollers?.length ?? 0;
  }

  it('wait for each other, and the first shows all that the other did', async () => {
    const file = world.write('spec.yaml', spec);
    await startWorker(world, '--queues', 'control');
    const { stderr } = await epsilonflow(world, 'run', file, '--detach');
    expect(stderr).toContain('located/1 started');
    const waiting = await until('it waits', async () => {
      const now = await status();
      return now.awaitedWorkers.length > 0 ? now : null;
    });
    const planFile = join(world.folder, 'home', 'plans', `${waiting.planDigest}.json`);
    const { datasets } = JSON.parse(readFileSync(planFile, 'utf8')) as Plan;
    const queue = `cpu.${dataNames(Object.values(datasets))[0]}`;
    expect(waiting.awaitedWorkers).toEqual([{ node: 'generator', queue, datasets: ['weather'] }]);
    expect((await epsilonflow(world, 'status', 'located/1')).stdout).toContain(
      'generator: waits for a free worker that has dataset weather',
    );

    await startWorker(without, '--queues', 'cpu,gpu');
    await sleep(5_000);
    expect(await pollersOf(queue)).toBe(0);
    expect((await status()).awaitedWorkers).toEqual(waiting.awaitedWorkers);

    cpSync(file, join(other.folder, 'spec.yaml'));
    await startWorker(other, '--queues', 'cpu', '--data', join(other.folder, 'spec.yaml'));
    expect(readFileSync(join(other.folder, 'worker.log'), 'utf8')).toContain(queue);
    expect(await client.workflow.getHandle(waiting.workflowId).result()).toMatchObject({ status: 'completed' });

    const ended = await status();
    expect(ended).toMatchObject({ status: 'completed', counts: { completed: 2, running: 0 }, awaitedWorkers: [] });
    const types = readEvents(ended.directory).events.flatMap((event) =>
      'node' in event ? [`${event.type} ${event.node}`] : [],
    );
    for (const node of ['generator', 'synthetic']) {
      expect(types).toContain(`node-started ${node}`);
      expect(types).toContain(`node-completed ${node}`);
    }
    expect(existsSync(join(ended.directory, 'report.html'))).toBe(true);
    expect((await epsilonflow(world, 'logs', 'located/1', 'generator')).stdout).toContain('on host');
    expect((await epsilonflow(world, 'logs', 'located/1', 'synthetic')).stdout).toContain('on host');
  }, 900_000);
});

async function until<T>(what: string, look: () => Promise<T | null | false>): Promise<T> {
  for (const deadline = Date.now() + 180_000; Date.now() < deadline; await sleep(200)) {
    const found = await look();
    if (found !== null && found !== false) return found;
  }
  throw new Error(`Waited in vain until ${what}`);
}
