import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StepReceipt } from '../../activities/contract.ts';
import type { Claim } from '../../activities/work-folder.ts';
import { killProcess } from '../../activities/process-identity.ts';
import { offlineHost } from '../../cli/compile-host.ts';
import { compileSpec } from '../../compiler/index.ts';
import { openLedger } from '../../privacy/ledger/index.ts';
import type { Plan } from '../../schemas/plan.ts';
import { packageRoot } from '../../stack/paths.ts';
import { ensureTemporal, stopServices, type TemporalService } from '../../stack/services.ts';
import { openStore } from '../../store/index.ts';
import { ObjectStorage } from '../../store/objects.ts';
import { readEvents, type RunEvent } from '../../tracking/events.ts';
import { summariseRun } from '../../tracking/run-summary.ts';
import { separateHost, type SeparateHost } from '../network.ts';
import { startObjectServer, type ObjectServer } from '../object-server.ts';
import { startPostgres, type PostgresServer } from '../postgres-server.ts';
import { generatorStep, openTinyWorld, specHead, type TinyWorld } from '../orchestration/tiny-experiment.ts';
import { requires } from '../requires.ts';

const steps = 60;
const run = { name: 'shared', number: 1, workflowId: 'shared/1-test' };

const spec = `${specHead(run.name, { size: 2000, epsilon: 20 })}
matrix: { seed: [1, 2] }
steps:
${generatorStep({ epsilon: 4, steps, batch: 300, seed: "'\${{ matrix.seed }}'" })}
`;

const isPossible = ['network-namespaces', 'object-storage', 'postgres'] as const;
const isRunnable = isPossible.map((name) => requires(name, 'an experiment on several machines')).every(Boolean);

/** A host of its own: network, state folder and worker. */
interface Machine extends SeparateHost {
  home: string;
  worker: ChildProcess;
}

describe.runIf(isRunnable)('two machines that share an experiment', () => {
  let world: TinyWorld;
  let temporal: TemporalService;
  let postgres: PostgresServer;
  let objectServer: ObjectServer;
  let objects: ObjectStorage;
  let client: Client;
  let plan: Plan;
  let ledgerUrl: string;
  let [lost, other]: Machine[] = [];
  const machines: Machine[] = [];

  async function startMachine(name: string, number: number, queues: string): Promise<Machine> {
    const host = await separateHost(number);
    const s3 = new URL(objectServer.environment['AWS_ENDPOINT_URL_S3']!);
    for (const port of [temporal.address.split(':')[1], new URL(ledgerUrl).port, s3.port])
      await host.offer(Number(port));
    const home = join(world.folder, name);
    const there = (url: string): string => url.replace('127.0.0.1', host.gateway);
    const environment = {
      ...process.env,
      EPSILONFLOW_HOME: home,
      EPSILONFLOW_LEDGER_URL: there(ledgerUrl),
      TEMPORAL_ADDRESS: there(temporal.address),
      AWS_ENDPOINT_URL_S3: there(s3.href),
    };
    const log = openSync(join(world.folder, `${name}.log`), 'a');
    const program = [process.execPath, join(packageRoot, 'cli', 'epsilonflow.mjs'), 'worker', '--queues', queues];
    const [command, ...parameters] = [...host.enter, ...program];
    const worker = spawn(command!, parameters, { env: environment, stdio: ['ignore', log, log] });
    const machine = { ...host, home, worker };
    machines.push(machine);
    await until(`${name} is ready`, () => (existsSync(join(home, 'services', 'worker.json')) ? true : null));
    return machine;
  }

  beforeAll(async () => {
    world = await openTinyWorld({ train: 2000, withModel: true });
    [objectServer, postgres, temporal] = await Promise.all([startObjectServer(), startPostgres(), ensureTemporal()]);
    ledgerUrl = await postgres.createDatabase();
    Object.assign(process.env, objectServer.environment, {
      EPSILONFLOW_LEDGER_URL: ledgerUrl,
      EPSILONFLOW_STORE_URL: 's3://results/lab',
      EPSILONFLOW_RUN_SECRET: 'a secret that the two machines of this test share',
    });
    objects = new ObjectStorage('s3://results/lab');
    client = new Client({ connection: await Connection.connect({ address: temporal.address }) });
    plan = await compileSpec({ file: world.write('spec.yaml', spec) }, offlineHost());
    await openStore().savePlan(plan);
    [lost, other] = await Promise.all([startMachine('lost', 1, 'cpu'), startMachine('other', 2, 'control,cpu')]);
  }, 180_000);

  afterAll(async () => {
    for (const machine of machines) {
      machine.worker.kill('SIGKILL');
      machine.remove();
    }
    await client?.connection.close();
    process.env['EPSILONFLOW_HOME'] = world.environment['EPSILONFLOW_HOME'];
    await stopServices();
    await postgres?.remove();
    await objectServer?.remove();
    world?.remove();
  });

  const runFolder = ({ home }: Machine): string => join(home, 'runs', run.name, String(run.number));

  /** What the machine itself wrote. */
  const eventsOf = (machine: Machine): RunEvent[] => readEvents(join(runFolder(machine), 'shared-log')).events;

  const lossesOf = (machine: Machine, node: string): [step: number, value: number][] =>
    eventsOf(machine).flatMap((event) =>
      event.type === 'metric' && event.node === node ? [[event.step, event.value] as [number, number]] : [],
    );

  function claimOf({ home }: Machine): { id: string; claim: Claim } | null {
    const root = join(home, 'store', 'private', 'work');
    for (const id of existsSync(root) ? readdirSync(root) : []) {
      const file = join(root, id, 'claim.json');
      const claim = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Claim) : null;
      if (claim?.job) return { id, claim };
    }
    return null;
  }

  it('goes on from the last checkpoint of the one that is cut off, and refuses what that one does when it is back', async () => {
    const handle = await client.workflow.start('experimentWorkflow', {
      args: [{ ...run, planDigest: plan.digest }],
      workflowId: run.workflowId,
      taskQueue: 'control',
    });
    const { id, claim } = await until('both train', () => claimOf(other!) && claimOf(lost!));
    const isSent = async (): Promise<true | null> =>
      (await objects.list(`checkpoints/${id}/attempts/`)).length > 0 && lossesOf(lost!, claim.nodeId).length > 10
        ? true
        : null;
    await until('its checkpoint is in the store', isSent);
    for (const { name } of await objects.list('checkpoints/')) {
      expect((await objects.get(name))!.content.subarray(0, 4).toString(), name).toBe('EFS1');
    }

    lost!.cut();
    // It stands still, too, and will wake up as if nothing had happened.
    for (const each of [claim.worker, claim.job!]) killProcess(each, 'SIGSTOP');
    // What Temporal would find by itself three minutes later, when no heartbeat came.
    const silence = ApplicationFailure.create({ type: 'WORKER_DIED', message: 'No heartbeat.' });
    await client.activity.fail(Buffer.from(claim.taskToken, 'base64'), silence);
    const resumed = (): true | null => (lossesOf(other!, claim.nodeId).length > 0 ? true : null);
    await until('the other machine goes on', resumed);
    await expectLateRecordRefused(id);
    lost!.mend();
    for (const each of [claim.job!, claim.worker]) killProcess(each, 'SIGCONT');

    await handle.result();
    const before = new Map(lossesOf(lost!, claim.nodeId));
    const after = lossesOf(other!, claim.nodeId);
    expect(after[0]![0]).toBeGreaterThan(1);
    expect(after.at(-1)![0]).toBe(steps);
    // The same batch and the same noise where both did a step.
    for (const [step, value] of after) if (before.has(step)) expect(value).toBe(before.get(step));
    await until('the lost machine has given up', () => (claimOf(lost!) === null ? true : null));
    expect(lossesOf(lost!, claim.nodeId).length).toBeLessThan(steps);

    // The one that keeps the run has the whole curve, and the report.
    const { nodes } = summariseRun(readEvents(runFolder(other!)).events);
    const curve = nodes.get(claim.nodeId)!.curves.get('trainLoss')!;
    const whole = Array.from({ length: steps }, (_, step) => step + 1);
    expect(curve.map(({ step }) => step).sort((a, b) => a - b)).toEqual(whole);
    expect(existsSync(join(runFolder(other!), 'report.html'))).toBe(true);

    await expectLatePublicationRefused(claim.nodeId);
    expect(await objects.list('checkpoints/')).toEqual([]);
    const ledger = await openLedger(ledgerUrl);
    const account = await ledger.accountSummary('weather');
    await ledger.close();
    expect(account?.experiments[0]?.entries).toEqual({ reserved: 0, begun: 0, committed: 2, released: 0 });
  }, 600_000);

  /** What the lost machine would ask of the ledger, with the token of the first attempt. */
  async function expectLateRecordRefused(id: string): Promise<void> {
    const owner = readFileSync(join(lost!.home, 'store', 'private', 'work', id, 'owner.json'), 'utf8');
    const [receipt] = (JSON.parse(owner) as { receipts: StepReceipt[] }).receipts;
    const token = { entryId: receipt!.entryId, token: 1, state: 'begun' as const };
    const ledger = await openLedger(ledgerUrl);
    await expect(ledger.checkFence(receipt!, token)).rejects.toMatchObject({ code: 'FENCED' });
    await expect(ledger.recordStep(receipt!, token, steps - 1, 'ab'.repeat(32))).rejects.toMatchObject({
      code: 'FENCED',
    });
    await ledger.close();
  }

  async function expectLatePublicationRefused(nodeId: string): Promise<void> {
    process.env['EPSILONFLOW_HOME'] = lost!.home;
    const { artifacts, lookup } = openStore();
    const { key } = plan.nodes.find(({ id }) => id === nodeId)!;
    const { manifest } = (await lookup(key))!;
    const stage = await artifacts.stage('late', manifest.label);
    await writeFile(join(stage.directory, 'adapter.txt'), 'of an attempt that was fenced off');
    const kept = await artifacts.publish(stage, { ...manifest, metrics: {} });
    expect(kept.manifest).toEqual(manifest);
    expect((await lookup(key))!.manifest).toEqual(manifest);
  }
});

async function until<T>(what: string, look: () => T | null | Promise<T | null>): Promise<T> {
  for (const deadline = Date.now() + 240_000; Date.now() < deadline; await sleep(50)) {
    const found = await look();
    if (found !== null) return found;
  }
  throw new Error(`Waited in vain until ${what}`);
}
