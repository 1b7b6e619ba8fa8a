/** @file A lock file between processes: taken by one at a time, taken over when its holder has died. */

import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';

const heartbeatMs = 5_000;
/** A holder on another host (or in another container) counts as dead when its lock is older than this. */
const silentMs = 60_000;

/** When a process started, in clock ticks since boot, as /proc tells it; null when there is no such process. */
export function processStart(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : fields[19];
  } catch {
    return null;
  }
}

/** Whether the process that is described is still the one that wrote the description. */
export const isAlive = ({ pid, start }) => start !== null && processStart(pid) === start;

/** Reads the holder of a lock: null when the lock is free or the file is damaged. */
export function readLock(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

function isStale(file) {
  const holder = readLock(file);
  if (holder === null) {
    // Being written by link, a lock is never half there: a damaged one is left from a crash of the machine.
    return age(file) > 1_000;
  }
  return holder.host === hostname() ? !isAlive(holder) : age(file) > silentMs;
}

function age(file) {
  try {
    return Date.now() - statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}

/** Creates `file` whole with `content`; false when it exists. */
function createWhole(file, content) {
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(draft, content);
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Removes a stale lock. Takers-over exclude one another, so that none removes a lock that was just taken anew. */
function breakStale(file) {
  const guard = `${file}.takeover`;
  if (age(guard) > 10_000) rmSync(guard, { force: true });
  if (!createWhole(guard, String(process.pid))) return null;
  try {
    if (!isStale(file)) return null;
    const former = readLock(file);
    rmSync(file, { force: true });
    return former;
  } finally {
    rmSync(guard, { force: true });
  }
}

/**
 * Takes the lock `file`, waiting for its holder.
 *
 * @param {string} file
 * @param {{ purpose: string, onWait?: (holder: object) => void, onTakeover?: (former: object) => void,
 *   pollMs?: number, timeoutMs?: number }} options
 * @returns {Promise<{ note: (extra: object) => void, release: () => void }>} `note` adds facts to the lock file
 */
export async function acquireLock(file, { purpose, onWait, onTakeover, pollMs = 200, timeoutMs = Infinity }) {
  mkdirSync(dirname(file), { recursive: true });
  const token = randomBytes(8).toString('hex');
  const self = {
    pid: process.pid,
    start: processStart(process.pid),
    host: hostname(),
    purpose,
    token,
    since: new Date().toISOString(),
  };
  const deadline = Date.now() + timeoutMs;
  let told = false;
  while (!createWhole(file, JSON.stringify(self))) {
    if (isStale(file)) {
      const former = breakStale(file);
      if (former !== null) onTakeover?.(former);
      continue;
    }
    const holder = readLock(file);
    if (!told && holder !== null) {
      onWait?.(holder);
      told = true;
    }
    if (Date.now() > deadline) throw new Error(`${file} is held by process ${holder?.pid ?? '?'}`);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
  const ours = () => readLock(file)?.token === token;
  const beat = setInterval(() => {
    try {
      if (ours()) utimesSync(file, new Date(), new Date());
    } catch {
      // The lock was removed by hand; there is nothing to keep alive.
    }
  }, heartbeatMs);
  beat.unref();
  return {
    note(extra) {
      Object.assign(self, extra);
      if (ours()) writeFileSync(file, JSON.stringify(self));
    },
    release() {
      clearInterval(beat);
      if (ours()) rmSync(file, { force: true });
    },
  };
}
