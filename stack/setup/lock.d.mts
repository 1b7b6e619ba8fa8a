export interface LockHolder {
  pid: number;
  start: string | null;
  host: string;
  purpose: string;
  since: string;
  [extra: string]: unknown;
}

export interface Lock {
  note(extra: object): void;
  release(): void;
}

export function processStart(pid: number): string | null;
export function isAlive(process: { pid: number; start: string | null }): boolean;
export function readLock(file: string): LockHolder | null;
export function acquireLock(
  file: string,
  options: {
    purpose: string;
    onWait?: (holder: LockHolder) => void;
    onTakeover?: (former: LockHolder) => void;
    pollMs?: number;
    timeoutMs?: number;
  },
): Promise<Lock>;
