/** @file The newest row of each ledger that was used from this state folder, so that an older copy of it is noticed. */

import { readFileSync } from 'node:fs';

import { ledgerName, type KnownHead, type Ledger } from '../privacy/ledger/index.ts';
import { writeDurably } from '../store/disk.ts';
import { ledgerUrl, statePaths } from './paths.ts';
import { acquireLock } from './setup/lock.mjs';

/** Newest head that this machine has seen, by identity of the ledger, and where that was kept. */
type RememberedHeads = Record<string, { sequence: number; hash: string; at?: string }>;

export function rememberedHeads(): RememberedHeads {
  try {
    return JSON.parse(readFileSync(statePaths.ledgerHeads(), 'utf8')) as RememberedHeads;
  } catch (error) {
    // Lost with the run state: then only marker, workflow histories and tracker remember.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return {};
    throw error;
  }
}

/** Heads of the ledgers that were kept where the ledger is now. */
export function rememberedHere(): KnownHead[] {
  const here = ledgerName(ledgerUrl());
  return Object.entries(rememberedHeads()).flatMap(([ledger, { sequence, hash, at }]) =>
    at === here ? [{ ledger, sequence, hash }] : [],
  );
}

/** Whether this machine has used any ledger. */
export const remembersLedgers = (): boolean => Object.keys(rememberedHeads()).length > 0;

/** Processes do it one after another, and never go back: a lower row would let a copy pass that lacks the ones after it. */
export async function writeHead(
  ledger: Ledger,
  { overwrite, url = ledgerUrl() }: { overwrite: boolean; url?: string },
): Promise<void> {
  const file = statePaths.ledgerHeads();
  const lock = await acquireLock(`${file}.lock`, { purpose: 'remembering the newest row of the ledger', pollMs: 10 });
  try {
    const [identity, head] = [await ledger.identity(), await ledger.head()];
    const heads = rememberedHeads();
    if (!overwrite && (heads[identity]?.sequence ?? -1) >= head.sequence) return;
    const seen = { ...head, at: ledgerName(url) };
    await writeDurably(file, JSON.stringify({ ...heads, [identity]: seen }, null, 2) + '\n');
  } finally {
    lock.release();
  }
}

const appending: ReadonlySet<string | symbol> = new Set<keyof Ledger>([
  'register',
  'reserve',
  'begin',
  'commit',
  'release',
  'setBudget',
  'acknowledge',
  'acknowledgePublic',
]);

/** Remembers the head after each change of the chain. */
export function remembering(ledger: Ledger, url: string): Ledger {
  return new Proxy(ledger, {
    get(target, name): unknown {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      const method = (...args: unknown[]): Promise<unknown> => Reflect.apply(value, target, args) as Promise<unknown>;
      const isRecord = name === ('recordStep' satisfies keyof Ledger);
      if (!isRecord && !appending.has(name)) return method;
      return async (...args: unknown[]): Promise<unknown> => {
        const result = await method(...args);
        const isChained = !isRecord || (result as Awaited<ReturnType<Ledger['recordStep']>>).isChained;
        if (isChained) await writeHead(target, { overwrite: false, url });
        return result;
      };
    },
  });
}
