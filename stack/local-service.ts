/** @file One local server as a process that outlives commands: started once, recorded, watched, stopped. */

import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { EpsilonflowError } from '../schemas/errors.ts';
import { orDiskFull } from './free-space.ts';
import { listensOn } from './listening.ts';
import { partsRoot, statePaths } from './paths.ts';
import { acquireLock, isAlive, processStart, type Lock } from './setup/lock.mjs';

export interface ServiceDefinition {
  /** Also the name of its record, lock and log file. */
  name: string;
  title: string;
  /** Program below the Python environment of set-up. */
  executable: string;
  /** Ports by purpose, with the one that is taken when it is free, and the variable that demands another. */
  ports: Record<string, { preferred: number; variable: string }>;
  parameters(ports: Record<string, number>, folder: string): string[];
  environment(): Record<string, string>;
  /** Whether it answers; never throws. */
  isHealthy(ports: Record<string, number>): Promise<boolean>;
  startupSeconds: number;
}

export interface ServiceRecord {
  pid: number;
  start: string | null;
  ports: Record<string, number>;
  startedAt: string;
}

export type ServiceState = 'running' | 'unhealthy' | 'stopped';

const recordFile = (name: string): string => join(statePaths.services(), `${name}.json`);

/** Log file of a local service. */
export const serviceLog = (name: string): string => join(statePaths.services(), `${name}.log`);

/** What is recorded of a service: its last process and its ports; null when it never ran. */
export function readRecord(name: string): ServiceRecord | null {
  try {
    return JSON.parse(readFileSync(recordFile(name), 'utf8')) as ServiceRecord;
  } catch {
    return null;
  }
}

function writeRecord(name: string, record: ServiceRecord): void {
  const draft = `${recordFile(name)}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(draft, recordFile(name));
}

/** State of a service without changing anything. */
export async function serviceState(service: ServiceDefinition): Promise<ServiceState> {
  const record = readRecord(service.name);
  if (record === null || !isAlive(record)) return 'stopped';
  return (await service.isHealthy(record.ports)) ? 'running' : 'unhealthy';
}

/** Makes sure that the service runs and answers; returns its record. Started once, whoever calls at the same time. */
export async function ensureService(service: ServiceDefinition): Promise<ServiceRecord> {
  const known = readRecord(service.name);
  if (known !== null && isAlive(known) && (await service.isHealthy(known.ports))) return known;
  const lock = await lockService(service);
  try {
    const record = readRecord(service.name);
    if (record !== null && isAlive(record)) {
      // Perhaps just started by another command, perhaps busy: give it the time of a start before replacing it.
      if (await waitHealthy(service, record)) return record;
      await endProcess(record);
    }
    return await start(service, record);
  } finally {
    lock.release();
  }
}

/** Stops a service if it runs; its ports stay recorded for the next start. Returns whether it was running. */
export async function stopService(service: ServiceDefinition): Promise<boolean> {
  if (readRecord(service.name) === null) return false;
  const lock = await lockService(service);
  try {
    const record = readRecord(service.name);
    if (record === null || !isAlive(record)) return false;
    await endProcess(record);
    return true;
  } finally {
    lock.release();
  }
}

function lockService(service: ServiceDefinition): Promise<Lock> {
  const purpose = `starting or stopping ${service.title}`;
  return acquireLock(join(statePaths.services(), `${service.name}.lock`), { purpose });
}

const startAttempts = 3;

async function start(service: ServiceDefinition, last: ServiceRecord | null, attempt = 1): Promise<ServiceRecord> {
  const folder = statePaths.services();
  mkdirSync(folder, { recursive: true });
  const python = join(partsRoot, 'python');
  const executable = join(python, 'bin', service.executable);
  // Set-up writes this file last: without it the environment is missing or half made.
  if (!existsSync(join(python, 'epsilonflow.json')) || !existsSync(executable)) {
    throw new EpsilonflowError('SETUP_INCOMPLETE', `${service.title} is not installed in ${python}`, {
      hint: 'Run "node stack/bootstrap.mjs setup".',
    });
  }
  const ports = await choosePorts(service, last?.ports ?? {}, attempt === 1);
  const log = openSync(serviceLog(service.name), 'a');
  try {
    const child = spawn(executable, service.parameters(ports, folder), {
      cwd: folder,
      env: { ...serviceEnvironment(), ...service.environment() },
      stdio: ['ignore', log, log],
      // A group of its own: Ctrl-C in the terminal doesn't reach it, and stopping reaches all its processes.
      detached: true,
    });
    child.on('error', () => undefined);
    child.unref();
    if (child.pid === undefined) throw startFailure(service, 'its program could not be run');
    const record = { pid: child.pid, start: processStart(child.pid), ports, startedAt: new Date().toISOString() };
    writeRecord(service.name, record);
    if (await waitHealthy(service, record)) return record;
    const died = !isAlive(record);
    await endProcess(record);
    // Servers of two state folders may choose the same ports at one moment, and each take one of them: then both end.
    if (died && attempt < startAttempts) return await start(service, null, attempt + 1);
    throw startFailure(service, died ? 'it ended at once' : `it gave no answer within ${service.startupSeconds} s`);
  } finally {
    closeSync(log);
  }
}

function startFailure(service: ServiceDefinition, reason: string): EpsilonflowError {
  const log = serviceLog(service.name);
  const tail = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n').slice(-3).join('\n    ') : '';
  return orDiskFull(
    new EpsilonflowError('SERVICE_UNREACHABLE', `${service.title} did not start: ${reason}\n    ${tail}`, {
      hint: `Its log is ${log}; "epsilonflow doctor" checks every part.`,
    }),
  );
}

/** Temporary files and caches of servers stay in the project, telemetry is off. */
function serviceEnvironment(): NodeJS.ProcessEnv {
  const temporary = join(partsRoot, 'tmp');
  mkdirSync(temporary, { recursive: true });
  const cache = join(partsRoot, 'cache');
  return {
    ...process.env,
    TMPDIR: temporary,
    XDG_CACHE_HOME: cache,
    XDG_CONFIG_HOME: join(cache, 'config'),
    MPLCONFIGDIR: join(cache, 'matplotlib'),
    PYTHONNOUSERSITE: '1',
    DO_NOT_TRACK: 'true',
  };
}

async function waitHealthy(service: ServiceDefinition, record: ServiceRecord): Promise<boolean> {
  const deadline = Date.now() + service.startupSeconds * 1000;
  while (Date.now() < deadline && isAlive(record)) {
    // A server of another state folder may have been faster with a port, and be the one that answers.
    if ((await service.isHealthy(record.ports)) && listensOn(record.pid, Object.values(record.ports))) return true;
    await sleep(150);
  }
  return false;
}

async function endProcess(record: ServiceRecord): Promise<void> {
  for (const [signal, patience] of [
    ['SIGTERM', 10_000],
    ['SIGKILL', 5_000],
  ] as const) {
    try {
      process.kill(-record.pid, signal);
    } catch {
      return;
    }
    const deadline = Date.now() + patience;
    while (Date.now() < deadline) {
      if (!groupAlive(record.pid)) return;
      await sleep(50);
    }
  }
}

/** Whether any process of the group is left. */
function groupAlive(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}

/** Ports for a start: demanded by a variable, else those of the last time, else the usual if so wanted, else any free one. */
async function choosePorts(
  service: ServiceDefinition,
  last: Record<string, number>,
  wantsUsual: boolean,
): Promise<Record<string, number>> {
  const chosen: Record<string, number> = {};
  for (const [purpose, { preferred, variable }] of Object.entries(service.ports)) {
    const demanded = process.env[variable];
    if (demanded) {
      chosen[purpose] = await demandPort(service, variable, demanded);
      continue;
    }
    const before = last[purpose];
    if (before !== undefined && (await becomesFree(before))) chosen[purpose] = before;
    else chosen[purpose] = wantsUsual && (await isFree(preferred)) ? preferred : await anyFreePort();
  }
  return chosen;
}

async function demandPort(service: ServiceDefinition, variable: string, value: string): Promise<number> {
  const port = Number(value);
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new EpsilonflowError('ARGUMENT_INVALID', `${variable}=${value} is no port`, {
      hint: 'Give a number from 1 to 65535, or unset it to have a free port chosen.',
    });
  }
  if (await becomesFree(port)) return port;
  throw new EpsilonflowError('SERVICE_UNREACHABLE', `${service.title} can't start: port ${port} is in use`, {
    hint: `End what listens there, or unset ${variable} to have a free port chosen.`,
  });
}

function listenOnce(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      const address = server.address();
      const bound = typeof address === 'object' && address !== null ? address.port : null;
      server.close(() => resolve(bound));
    });
  });
}

const isFree = async (port: number): Promise<boolean> => (await listenOnce(port)) !== null;

/** The threads of a killed server let go of its port a moment after the server counts as dead. */
async function becomesFree(port: number): Promise<boolean> {
  for (const deadline = Date.now() + 2000; Date.now() < deadline; await sleep(100)) {
    if (await isFree(port)) return true;
  }
  return false;
}

async function anyFreePort(): Promise<number> {
  const port = await listenOnce(0);
  if (port !== null) return port;
  throw new EpsilonflowError('SERVICE_UNREACHABLE', 'No port is free on 127.0.0.1', {
    hint: 'End some programs that listen on ports.',
  });
}

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));
