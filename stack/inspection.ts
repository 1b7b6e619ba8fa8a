/** Looks at every part that Epsilonflow stands on, changing nothing: what `epsilonflow doctor` shows. */

import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ledgerUrl, packageRoot, stateRoot } from './paths.ts';
import { serviceLog } from './local-service.ts';
import { serviceStatuses } from './services.ts';
import { parts } from './setup/parts.mjs';
import { missingPrerequisites } from './setup/prerequisites.mjs';
import { sourceDigest } from '../tracking/source-digest.ts';
import { findWorker } from './worker-process.ts';

export interface PartReport {
  id: string;
  title: string;
  version: string;
  /** `stopped` is no fault: the part starts when it is needed. */
  state: 'ready' | 'stopped' | 'broken';
  detail: string;
  /** What to do; null when nothing is wrong. */
  remedy: string | null;
}

/** Least free space with which runs are comfortable, in bytes. */
const comfortableSpace = 2e9;

/** Reports on the machine, the parts of set-up, the state folder and the services. */
export async function inspectParts(): Promise<PartReport[]> {
  const installed = await Promise.all(parts.map(inspectPart));
  return [
    inspectMachine(),
    ...installed,
    inspectState(),
    inspectLedger(),
    ...(await inspectServices()),
    inspectWorker(),
  ];
}

function inspectMachine(): PartReport {
  const faults = missingPrerequisites({ python: true, compiler: true, diskMegabytes: 0 });
  return {
    id: 'machine',
    title: 'Machine',
    version: `Node ${process.versions.node}`,
    state: faults.length === 0 ? 'ready' : 'broken',
    detail: faults.length === 0 ? 'has all prerequisites' : faults.map(({ problem }) => problem).join(' '),
    remedy: faults.length === 0 ? null : faults.map(({ fix }) => fix).join(' '),
  };
}

async function inspectPart(part: (typeof parts)[number]): Promise<PartReport> {
  const { ready, detail } = await part.check();
  return {
    id: part.id,
    title: part.title,
    version: part.version(),
    state: ready ? 'ready' : 'broken',
    detail,
    remedy: ready ? null : `Run "node stack/bootstrap.mjs setup" in ${packageRoot}.`,
  };
}

function inspectState(): PartReport {
  const folder = stateRoot();
  const report = { id: 'state', title: 'Run state', version: '-' };
  try {
    mkdirSync(folder, { recursive: true });
    const probe = join(folder, `.probe-${process.pid}`);
    writeFileSync(probe, 'x');
    rmSync(probe);
  } catch (error) {
    return {
      ...report,
      state: 'broken',
      detail: `${folder} can't be written: ${(error as Error).message}`,
      remedy: 'Make the folder yours and free some space, or name another in EPSILONFLOW_HOME.',
    };
  }
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const enough = free >= comfortableSpace;
  return {
    ...report,
    state: enough ? 'ready' : 'broken',
    detail: `${folder}, ${(free / 1e9).toFixed(1)} GB free`,
    remedy: enough ? null : 'Free at least 2 GB, or name a folder on a larger disk in EPSILONFLOW_HOME.',
  };
}

/** Where spending is kept, without a password that the address may hold. */
function inspectLedger(): PartReport {
  const detail = ledgerUrl().replace(/(:\/\/[^:/@]*):[^@]*@/, '$1:***@');
  return { id: 'ledger', title: 'Privacy ledger', version: '-', state: 'ready', detail, remedy: null };
}

async function inspectServices(): Promise<PartReport[]> {
  const statuses = await serviceStatuses();
  return statuses.map(({ name, title, state, url, own }) => {
    const broken = state === 'unhealthy';
    const where = url === null ? 'never started' : url;
    return {
      id: name,
      title: title.replace(/^The /, ''),
      version: own ? 'local' : 'external',
      state: state === 'running' ? 'ready' : broken ? 'broken' : 'stopped',
      detail: broken ? `${where} gives no answer` : where,
      remedy: !broken ? null : own ? `Run "epsilonflow down", then "up"; its log is ${serviceLog(name)}.` : 'Start it.',
    };
  });
}

function inspectWorker(): PartReport {
  const worker = findWorker();
  const current = worker?.codeDigest === sourceDigest();
  return {
    id: 'worker',
    title: 'Worker',
    version: 'local',
    state: worker === null ? 'stopped' : 'ready',
    detail:
      worker === null
        ? 'starts with the next run'
        : `process ${worker.process.pid}${current ? '' : ', of older code: the next run replaces it'}`,
    remedy: null,
  };
}
