import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { readRecord } from '../../stack/local-service.ts';
import { ensureMlflow, ensureServices, ensureTemporal, serviceStatuses, stopServices } from '../../stack/services.ts';
import { isAlive } from '../../stack/setup/lock.mjs';
import { freePort } from '../postgres-server.ts';

const script = fileURLToPath(new URL('services-process.ts', import.meta.url));
const variables = [
  'EPSILONFLOW_HOME',
  'TEMPORAL_ADDRESS',
  'MLFLOW_TRACKING_URI',
  'EPSILONFLOW_TEMPORAL_PORT',
  'EPSILONFLOW_MLFLOW_PORT',
];
const before = Object.fromEntries(variables.map((name) => [name, process.env[name]]));
let home: string;

beforeAll(async () => {
  for (const name of variables) delete process.env[name];
  home = mkdtempSync(join(tmpdir(), 'services test '));
  process.env['EPSILONFLOW_HOME'] = home;
  // The usual ones may be taken by other tests while a server of this one is stopped.
  remember('temporal', { grpc: await freePort(), ui: await freePort() });
  remember('mlflow', { http: await freePort() });
});

/** As if a server had run on these ports and ended. */
function remember(name: string, ports: Record<string, number>): void {
  const record = {
    pid: process.pid,
    start: 'another process of that number',
    ports,
    startedAt: new Date(0).toISOString(),
  };
  mkdirSync(join(home, 'services'), { recursive: true });
  writeFileSync(join(home, 'services', `${name}.json`), JSON.stringify(record));
}

afterAll(async () => {
  await stopServices();
  rmSync(home, { recursive: true, force: true });
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

const addressFromProcess = (folder = home): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', script], {
      env: { ...process.env, EPSILONFLOW_HOME: folder },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', () => resolve(output.trim()));
  });

const failure = async (promise: Promise<unknown>): Promise<EpsilonflowError> => {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EpsilonflowError);
  return error as EpsilonflowError;
};

/** Listens on a free port of 127.0.0.1 without ever answering. */
const occupy = (): Promise<{ port: number; server: Server }> =>
  new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => resolve({ port: (server.address() as { port: number }).port, server }));
  });

describe('local services', () => {
  it('are started once, even by several commands at the same time', async () => {
    const addresses = await Promise.all([addressFromProcess(), addressFromProcess(), ensureTemporal()]);
    const [first, second, { address, uiUrl }] = addresses;
    expect(first).toBe(address);
    expect(second).toBe(address);
    const { pid } = readRecord('temporal')!;
    expect((await ensureTemporal()).address).toBe(address);
    expect(readRecord('temporal')!.pid).toBe(pid);
    expect((await fetch(uiUrl!)).status).toBe(200);
  });

  it('of state folders that start them at one moment take different ports', async () => {
    const homes = Array.from({ length: 4 }, () => mkdtempSync(join(tmpdir(), 'services test ')));
    try {
      const addresses = await Promise.all(homes.map((folder) => addressFromProcess(folder)));
      expect(addresses.every((address) => /^127\.0\.0\.1:\d+$/.test(address))).toBe(true);
      expect(new Set(addresses).size).toBe(homes.length);
    } finally {
      for (const folder of homes) {
        process.env['EPSILONFLOW_HOME'] = folder;
        await stopServices();
        rmSync(folder, { recursive: true, force: true });
      }
      process.env['EPSILONFLOW_HOME'] = home;
    }
  }, 120_000);

  it('come back on the same ports with what they held when they were killed', async () => {
    const { address } = await ensureTemporal();
    const connection = await Connection.connect({ address });
    const client = new Client({ connection });
    await client.workflow.start('nothing', { taskQueue: 'nobody', workflowId: 'survivor' });
    await connection.close();
    const { pid } = readRecord('temporal')!;
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => isAlive(readRecord('temporal')!)).toBe(false);
    expect((await serviceStatuses()).find(({ name }) => name === 'temporal')).toMatchObject({
      state: 'stopped',
      pid: null,
    });

    expect((await ensureTemporal()).address).toBe(address);
    expect(readRecord('temporal')!.pid).not.toBe(pid);
    const again = await Connection.connect({ address });
    const { status } = await new Client({ connection: again }).workflow.getHandle('survivor').describe();
    expect(status.name).toBe('RUNNING');
    await again.close();
  });

  it('include an MLflow that answers and keeps what it was told over a restart', async () => {
    const { mlflow, warnings } = await ensureServices();
    expect(warnings).toEqual([]);
    const created = await fetch(`${mlflow!.uri}/api/2.0/mlflow/experiments/create`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ name: 'kept' }),
    });
    expect(created.status).toBe(200);
    await stopServices();
    expect((await serviceStatuses()).map(({ state }) => state)).toEqual(['stopped', 'stopped']);
    expect((await ensureMlflow())!.uri).toBe(mlflow!.uri);
    const found = await fetch(`${mlflow!.uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept`);
    expect(found.status).toBe(200);
  }, 180_000);

  it('choose another port when theirs has been taken meanwhile', async () => {
    await stopServices();
    const { port, server } = await occupy();
    const record = readRecord('temporal')!;
    writeFileSync(
      join(home, 'services', 'temporal.json'),
      JSON.stringify({ ...record, ports: { ...record.ports, grpc: port } }),
    );
    const { address } = await ensureTemporal();
    expect(address).not.toBe(`127.0.0.1:${port}`);
    server.close();
  });

  it('say that a demanded port is in use, and what to do', async () => {
    await stopServices();
    const { port, server } = await occupy();
    process.env['EPSILONFLOW_TEMPORAL_PORT'] = String(port);
    const error = await failure(ensureTemporal());
    expect(error.code).toBe('SERVICE_UNREACHABLE');
    expect(error.message).toContain(`port ${port} is in use`);
    expect(error.hint).toContain('EPSILONFLOW_TEMPORAL_PORT');
    process.env['EPSILONFLOW_TEMPORAL_PORT'] = 'many';
    expect((await failure(ensureTemporal())).code).toBe('ARGUMENT_INVALID');
    delete process.env['EPSILONFLOW_TEMPORAL_PORT'];
    server.close();
  });

  it('leave a log', () => {
    expect(readFileSync(join(home, 'services', 'temporal.log'), 'utf8')).toContain('temporal.db');
  });
});

describe('services that variables name', () => {
  it('are not started; one that does not answer is an error with a remedy', async () => {
    const { port, server } = await occupy();
    server.close();
    process.env['TEMPORAL_ADDRESS'] = `127.0.0.1:${port}`;
    const error = await failure(ensureTemporal());
    expect(error.exitCode).toBe(4);
    expect(error.hint).toMatch(/unset it to use the local server/);
    delete process.env['TEMPORAL_ADDRESS'];

    process.env['MLFLOW_TRACKING_URI'] = `http://127.0.0.1:${port}`;
    expect((await failure(ensureMlflow())).code).toBe('SERVICE_UNREACHABLE');
    const { mlflow, warnings } = await ensureServices();
    expect(mlflow).toBeNull();
    expect(warnings.join()).toMatch(/MLFLOW_TRACKING_URI.*"epsilonflow publish" sends them later/);
    process.env['MLFLOW_TRACKING_URI'] = 'none';
    expect(await ensureMlflow()).toBeNull();
    delete process.env['MLFLOW_TRACKING_URI'];
  });
});
