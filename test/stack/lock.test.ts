import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { acquireLock, processStart, readLock, type LockHolder } from '../../stack/setup/lock.mjs';

const worker = fileURLToPath(new URL('lock-process.ts', import.meta.url));

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lock test '));
  file = join(folder, 'work.lock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A process that has ended: its id stands in a stale lock. */
function deadProcess(): { pid: number; start: string } {
  const { pid } = spawnSync('true');
  return { pid, start: '1' };
}

describe('the lock between processes', () => {
  it('lets one at a time work', async () => {
    const counter = join(folder, 'counter');
    writeFileSync(counter, '0');
    const run = (): Promise<number | null> =>
      new Promise((resolve) => {
        spawn(process.execPath, ['--import', 'tsx', worker, file, counter, '15'], { stdio: 'inherit' }).on(
          'close',
          resolve,
        );
      });
    expect(await Promise.all([run(), run(), run()])).toEqual([0, 0, 0]);
    expect(readFileSync(counter, 'utf8')).toBe('45');
  });

  it('is taken over when its holder has died, and tells whose it was', async () => {
    const dead = { ...deadProcess(), host: hostname(), purpose: 'set-up', since: '', command: { pid: 1 } };
    writeFileSync(file, JSON.stringify(dead));
    let former: LockHolder | undefined;
    const lock = await acquireLock(file, { purpose: 'set-up', onTakeover: (holder) => (former = holder) });
    expect(former).toEqual(dead);
    expect(readLock(file)?.pid).toBe(process.pid);
    lock.release();
    expect(existsSync(file)).toBe(false);
  });

  it('takes a process id that was given to another process for a dead one', async () => {
    const reused = { pid: process.pid, start: '1', host: hostname(), purpose: 'set-up', since: '' };
    expect(processStart(process.pid)).not.toBe('1');
    writeFileSync(file, JSON.stringify(reused));
    (await acquireLock(file, { purpose: 'set-up', timeoutMs: 5_000 })).release();
  });

  it('is not taken over while its holder lives, and the waiter says what it waits for', async () => {
    const lock = await acquireLock(file, { purpose: 'first' });
    let seen: LockHolder | undefined;
    const waiter = acquireLock(file, { purpose: 'second', pollMs: 10, onWait: (holder) => (seen = holder) });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(seen?.purpose).toBe('first');
    expect(readLock(file)?.purpose).toBe('first');
    lock.release();
    (await waiter).release();
  });

  it('is taken over by exactly one of many that find it stale', async () => {
    const counter = join(folder, 'counter');
    writeFileSync(counter, '0');
    writeFileSync(file, JSON.stringify({ ...deadProcess(), host: hostname(), purpose: 'set-up', since: '' }));
    const run = (): Promise<number | null> =>
      new Promise((resolve) => {
        spawn(process.execPath, ['--import', 'tsx', worker, file, counter, '5'], { stdio: 'inherit' }).on(
          'close',
          resolve,
        );
      });
    expect(await Promise.all([run(), run(), run(), run()])).toEqual([0, 0, 0, 0]);
    expect(readFileSync(counter, 'utf8')).toBe('20');
  });
});
