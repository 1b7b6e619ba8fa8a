/** @file A real MLflow server for a test: own database, own port, gone at the end. */

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, openSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { partsRoot } from '../../stack/paths.ts';
import { freePort } from '../postgres-server.ts';

export interface MlflowServer {
  uri: string;
  stop(): Promise<void>;
}

/** The set-up's own program, or one on the path. */
function mlflowProgram(): string {
  const folders = [join(partsRoot, 'python', 'bin'), ...(process.env['PATH'] ?? '').split(delimiter)];
  const found = folders.map((folder) => join(folder, 'mlflow')).find((path) => existsSync(path));
  if (!found) throw new Error('MLflow is not installed: run `node stack/bootstrap.mjs setup`');
  return found;
}

export async function startMlflow(): Promise<MlflowServer> {
  const folder = mkdtempSync(join(tmpdir(), 'epsilonflow-mlflow-'));
  const port = await freePort();
  const log = join(folder, 'server.log');
  const output = openSync(log, 'a');
  const server = spawn(
    mlflowProgram(),
    [
      'server',
      ...['--host', '127.0.0.1', '--port', String(port), '--workers', '1'],
      ...['--backend-store-uri', `sqlite:///${join(folder, 'mlflow.db')}`],
      ...['--artifacts-destination', join(folder, 'artifacts')],
    ],
    // A group of its own: the server forks workers, which all must go.
    { detached: true, stdio: ['ignore', output, output], env: { ...process.env, MLFLOW_DISABLE_TELEMETRY: 'true' } },
  );
  closeSync(output);
  const gone = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    if (server.pid !== undefined && server.exitCode === null) process.kill(-server.pid, 'SIGTERM');
    await Promise.race([gone, sleep(5000)]);
    if (server.pid !== undefined && server.exitCode === null && server.signalCode === null)
      process.kill(-server.pid, 'SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  const uri = `http://127.0.0.1:${port}`;
  for (let waited = 0; waited < 90_000; waited += 250) {
    const healthy = await fetch(`${uri}/health`).then(
      (response) => response.ok,
      () => false,
    );
    if (healthy) return { uri, stop };
    if (server.exitCode !== null) break;
    await sleep(250);
  }
  const said = readFileSync(log, 'utf8').slice(-2000);
  await stop();
  throw new Error(`MLflow did not start:\n${said}`);
}
