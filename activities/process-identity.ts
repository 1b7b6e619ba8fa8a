/** @file Which process it was, for sure: a process id alone is given again to others, with its start time it is not. */

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from boot to the start of the process, as the kernel counts them. */
  startTicks: number;
  /** Of the machine's present boot, so that records from before a restart name nobody. */
  bootId: string;
  host: string;
}

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/** Null when no such process exists (a zombie does not count: it runs no more). */
export function identifyProcess(pid: number): ProcessIdentity | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return null;
  }
  // The second field is the command in brackets and may hold anything; the third is the state, the 22nd the start.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  return { pid, startTicks: Number(fields[19]), bootId: bootId(), host: hostname() };
}

export const thisProcess = (): ProcessIdentity => identifyProcess(process.pid)!;

/** Whether the very process still runs on this host. A process of another host can't be asked and counts as alive. */
export function isProcessAlive(identity: ProcessIdentity): boolean {
  if (identity.host !== hostname()) return true;
  const now = identifyProcess(identity.pid);
  return now !== null && now.bootId === identity.bootId && now.startTicks === identity.startTicks;
}

/** Kills the very process, never another one that has got its id. Returns whether it was there. */
export function killProcess(identity: ProcessIdentity, signal: NodeJS.Signals = 'SIGKILL'): boolean {
  if (identity.host !== hostname() || !isProcessAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** As one word for file names; `decodeProcess` reads it back. */
export const encodeProcess = ({ host, bootId: boot, pid, startTicks }: ProcessIdentity): string =>
  [encodeURIComponent(host).replaceAll('.', '%2E'), boot, pid, startTicks].join('~');

export function decodeProcess(word: string): ProcessIdentity | null {
  const [host, boot, pid, startTicks] = word.split('~');
  if (!host || !boot || !Number(pid) || !Number(startTicks)) return null;
  return { host: decodeURIComponent(host), bootId: boot, pid: Number(pid), startTicks: Number(startTicks) };
}
