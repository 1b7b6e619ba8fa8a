/** @file The services that runs need: Temporal and MLflow, local ones started on demand or those named by variables. */

import type { Connection } from '@temporalio/client';
import { EpsilonflowError } from '../schemas/errors.ts';
import {
  ensureService,
  readRecord,
  serviceState,
  stopService,
  type ServiceDefinition,
  type ServiceState,
} from './local-service.ts';
import { searchAttributes } from '../workflows/search-attributes.ts';
import { namedServer, openConnection } from './temporal-connection.ts';

export interface TemporalService {
  /** `host:port` of the gRPC front end. */
  address: string;
  /** Address of the web pages; null when nothing is known of them. */
  uiUrl: string | null;
  namespace: string;
  /** Whether it is the local one that this project starts. */
  own: boolean;
}

export interface MlflowService {
  uri: string;
  own: boolean;
}

export interface Services {
  temporal: TemporalService;
  /** Null when there is no tracker: a run goes on and is published later. */
  mlflow: MlflowService | null;
  /** What the user should know, such as why there is no tracker. */
  warnings: string[];
}

const typeNames = { KEYWORD: 'Keyword', KEYWORD_LIST: 'KeywordList' } as const;
const registeredAttributes = Object.values(searchAttributes).flatMap(({ name, type }) => [
  '--search-attribute',
  `${name}=${typeNames[type]}`,
]);

/** Steps that wait go by priority, and of one priority experiments take turns: within a partition, so there is one. */
const sharesQueues = [
  'matching.useNewMatcher=true',
  'matching.enableFairness=true',
  'matching.numTaskqueueWritePartitions=1',
].flatMap((setting) => ['--dynamic-config-value', setting]);

const localTemporal: ServiceDefinition = {
  name: 'temporal',
  title: 'The Temporal server',
  executable: 'temporal',
  ports: {
    grpc: { preferred: 7233, variable: 'EPSILONFLOW_TEMPORAL_PORT' },
    ui: { preferred: 8233, variable: 'EPSILONFLOW_TEMPORAL_UI_PORT' },
  },
  // Relative paths: the folder's name may hold characters that database URLs don't take as they are.
  parameters: ({ grpc, ui }) =>
    ['server', 'start-dev', '--db-filename', 'temporal.db', '--ip', '127.0.0.1', '--port', String(grpc)].concat([
      '--ui-port',
      String(ui),
      '--ui-disable-news-fetch',
      '--log-level',
      'warn',
      ...registeredAttributes,
      ...sharesQueues,
    ]),
  environment: () => ({}),
  isHealthy: ({ grpc }) => temporalAnswers(`127.0.0.1:${grpc}`, 'default'),
  startupSeconds: 45,
};

const localMlflow: ServiceDefinition = {
  name: 'mlflow',
  title: 'The MLflow server',
  executable: 'python',
  ports: { http: { preferred: 5000, variable: 'EPSILONFLOW_MLFLOW_PORT' } },
  parameters: ({ http }) =>
    ['-m', 'mlflow', 'server', '--host', '127.0.0.1', '--port', String(http), '--workers', '1']
      .concat(['--backend-store-uri', 'sqlite:///mlflow.db', '--artifacts-destination', 'mlflow-artifacts'])
      .concat(['--allowed-hosts', `127.0.0.1:${http},localhost:${http}`, '--uvicorn-opts', '--log-level warning']),
  environment: () => ({
    MLFLOW_DISABLE_TELEMETRY: 'true',
    // Its job runner would start eight more Python processes, of which nothing here makes use.
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION: 'false',
    GIT_PYTHON_REFRESH: 'quiet',
  }),
  isHealthy: ({ http }) => mlflowAnswers(`http://127.0.0.1:${http}`),
  startupSeconds: 90,
};

/** Whether a Temporal server answers at `address` and knows the namespace. */
async function temporalAnswers(address: string, namespace: string): Promise<boolean> {
  let connection: Connection | undefined;
  try {
    connection = await openConnection(address, { connectTimeout: 3_000 });
    await connection.withDeadline(Date.now() + 5_000, () =>
      connection!.workflowService.describeNamespace({ namespace }),
    );
    return true;
  } catch {
    return false;
  } finally {
    await connection?.close();
  }
}

async function mlflowAnswers(uri: string): Promise<boolean> {
  try {
    const response = await fetch(new URL('/health', uri), { signal: AbortSignal.timeout(5_000) });
    return response.ok;
  } catch {
    return false;
  }
}

/** The Temporal server to use, running. Throws SERVICE_UNREACHABLE, SETUP_INCOMPLETE or ARGUMENT_INVALID. */
export async function ensureTemporal(): Promise<TemporalService> {
  const named = namedTemporal();
  if (named) {
    const { address, namespace } = named;
    if (await temporalAnswers(address, namespace)) return named;
    throw new EpsilonflowError(
      'SERVICE_UNREACHABLE',
      `No Temporal server with the namespace "${namespace}" answers at ${address}, which TEMPORAL_ADDRESS or a profile names`,
      { hint: 'Start it, correct the variable, or unset it to use the local server that Epsilonflow starts.' },
    );
  }
  const { ports } = await ensureService(localTemporal);
  return ownTemporal(ports);
}

/** The server that the environment names, if it does. */
function namedTemporal(): TemporalService | null {
  const named = namedServer();
  if (!named) return null;
  const { address, namespace } = named;
  return { address, uiUrl: process.env['TEMPORAL_UI_URL'] ?? null, namespace, own: false };
}

const ownTemporal = (ports: Record<string, number>): TemporalService => ({
  address: `127.0.0.1:${ports['grpc']}`,
  uiUrl: `http://127.0.0.1:${ports['ui']}`,
  namespace: 'default',
  own: true,
});

/**
 * The MLflow server to use, running; null when `MLFLOW_TRACKING_URI` is `none`. Throws SERVICE_UNREACHABLE or
 * SETUP_INCOMPLETE.
 */
export async function ensureMlflow(): Promise<MlflowService | null> {
  const named = process.env['MLFLOW_TRACKING_URI'];
  if (named === 'none') return null;
  if (named) {
    if (await mlflowAnswers(named)) return { uri: named, own: false };
    throw new EpsilonflowError(
      'SERVICE_UNREACHABLE',
      `No MLflow server answers at ${named}, which MLFLOW_TRACKING_URI names`,
      { hint: 'Start it, correct the variable, or unset it to use the local server that Epsilonflow starts.' },
    );
  }
  const { ports } = await ensureService(localMlflow);
  return { uri: `http://127.0.0.1:${ports['http']}`, own: true };
}

/** Both services. Without Temporal it throws; a missing tracker is a warning, since runs are published afterwards. */
export async function ensureServices(): Promise<Services> {
  const warnings: string[] = [];
  const [temporal, mlflow] = await Promise.all([
    ensureTemporal(),
    ensureMlflow().catch((error: unknown) => {
      if (!(error instanceof EpsilonflowError)) throw error;
      warnings.push(`${error.message}. Results are kept; "epsilonflow publish" sends them later.`);
      return null;
    }),
  ]);
  return { temporal, mlflow, warnings };
}

/** The services that answer now, without starting any; null for one that doesn't, and for a tracker that is not used. */
export async function answeringServices(): Promise<{ temporal: TemporalService | null; mlflow: MlflowService | null }> {
  const [temporal, mlflow] = await Promise.all([temporalStatus(), mlflowStatus()]);
  const hasTracker = process.env['MLFLOW_TRACKING_URI'] !== 'none' && mlflow.state === 'running';
  return {
    temporal: temporal.state === 'running' ? (namedTemporal() ?? ownTemporal(readRecord(temporal.name)!.ports)) : null,
    mlflow: hasTracker ? { uri: mlflow.url!, own: mlflow.own } : null,
  };
}

export interface ServiceStatus {
  name: string;
  title: string;
  state: ServiceState;
  /** Where it answers, or would answer after the next start; null when it never ran. */
  url: string | null;
  pid: number | null;
  own: boolean;
}

/** State of both services without starting anything. */
export async function serviceStatuses(): Promise<ServiceStatus[]> {
  return Promise.all([temporalStatus(), mlflowStatus()]);
}

async function temporalStatus(): Promise<ServiceStatus> {
  const named = namedTemporal();
  if (named) {
    const answers = await temporalAnswers(named.address, named.namespace);
    return external('temporal', localTemporal.title, named.address, answers);
  }
  return local(localTemporal, (ports) => `http://127.0.0.1:${ports['ui']}`);
}

async function mlflowStatus(): Promise<ServiceStatus> {
  const named = process.env['MLFLOW_TRACKING_URI'];
  if (named && named !== 'none') return external('mlflow', localMlflow.title, named, await mlflowAnswers(named));
  return local(localMlflow, (ports) => `http://127.0.0.1:${ports['http']}`);
}

function external(name: string, title: string, url: string, answers: boolean): ServiceStatus {
  return { name, title, state: answers ? 'running' : 'unhealthy', url, pid: null, own: false };
}

async function local(
  service: ServiceDefinition,
  url: (ports: Record<string, number>) => string,
): Promise<ServiceStatus> {
  const record = readRecord(service.name);
  const state = await serviceState(service);
  const { name, title } = service;
  return {
    name,
    title,
    state,
    url: record === null ? null : url(record.ports),
    pid: state === 'stopped' ? null : record!.pid,
    own: true,
  };
}

/** Stops the local services that run; returns their names. Services named by variables are left alone. */
export async function stopServices(): Promise<string[]> {
  const stopped = await Promise.all(
    [localTemporal, localMlflow].map(async (service) => ((await stopService(service)) ? service.name : null)),
  );
  return stopped.filter((name) => name !== null);
}
