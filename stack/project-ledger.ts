/**
 * @file The ledger as commands and workers open it: compared with what the project's marker and this machine remember of
 * it, so that a lost, exchanged or older one is not spent on.
 */

import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

import {
  ledgerName,
  ledgerSecret,
  markerText,
  openLedger,
  readMarker,
  rowsOf,
  type Discontinuity,
  type KnownHead,
  type Ledger,
  type Marker,
} from '../privacy/ledger/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { writeDurably } from '../store/disk.ts';
import { ledgerUrl, statePaths } from './paths.ts';
import { acquireLock } from './setup/lock.mjs';

/** Newest head that this machine has seen, by identity of the ledger, and where that was kept. */
type RememberedHeads = Record<string, { sequence: number; hash: string; at?: string }>;

interface WhatMustBeThere {
  remembered: boolean;
  known?: KnownHead | null;
}

/**
 * Opens the ledger for use.
 *
 * @param marker path of the marker that must name it; null where only public data are spent on. One that is not there
 *   asks for nothing.
 * @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK; what opening throws
 */
export async function openProjectLedger(marker: string | null, options?: WhatMustBeThere): Promise<Ledger> {
  requireLedger(marker, options);
  const ledger = await openUnchecked();
  try {
    await requireContinuity(ledger, marker);
    return ledger;
  } catch (error) {
    await ledger.close();
    throw error;
  }
}

/** Opens the ledger whatever is remembered of it, for those who look after it. */
export async function openUnchecked(): Promise<Ledger> {
  const url = ledgerUrl();
  return remembering(await openLedger(url), url);
}

/**
 * Before one is made in its place.
 *
 * @param options whether one that this machine remembers there must be there, too (by default where a marker is asked
 *   for), and `known`: one that must be there wherever it was
 * @throws EpsilonflowError LEDGER_MISMATCH when a ledger is named or remembered and none is there
 */
export function requireLedger(
  marker: string | null,
  { remembered, known }: WhatMustBeThere = { remembered: marker !== null },
): void {
  const url = ledgerUrl();
  if (!url.startsWith('sqlite:') || existsSync(resolve(url.slice('sqlite:'.length)))) return;
  const [lost] = known ? [known] : remembered ? rememberedHere() : [];
  const named = marker === null ? null : readMarker(marker);
  if (lost !== undefined && named === null) {
    throw mismatch(`There is no privacy ledger at ${url}, where one was kept before.`, marker, lost);
  }
  if (marker !== null && named !== null)
    throw mismatch(`There is no privacy ledger at ${url}, but ${marker} names one.`, marker, named);
}

/** @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK */
export async function requireContinuity(ledger: Ledger, marker: string | null): Promise<void> {
  const [first] = await discontinuitiesOf(ledger, marker);
  if (first === undefined) return;
  if (first.problem === 'secret-lost') {
    throw new EpsilonflowError('LEDGER_MISMATCH', 'The dataset secret is not the one that the ledger was kept with.', {
      hint:
        'Restore it from a backup. If it is lost, records of old and new data can not be compared any more; ' +
        `if you go on all the same: epsilonflow ledger acknowledge ${markerOption(marker)}--reason "..."`,
    });
  }
  if (first.problem === 'exchanged') {
    const isNamed = marker !== null && readMarker(marker)?.ledger === first.expected.ledger;
    const what = isNamed ? `the one that ${marker} names` : 'the one that was kept in its place before';
    throw mismatch(`The privacy ledger is not ${what}.`, marker, first.expected);
  }
  throw new EpsilonflowError(
    'LEDGER_ROLLED_BACK',
    `The privacy ledger lacks row ${first.expected.sequence}, which was written to it before: it is an older copy.`,
    {
      hint:
        'Put the newest copy back. If that is lost, what it held in addition can not be counted any more; ' +
        `if you go on all the same: epsilonflow ledger acknowledge ${markerOption(marker)}--reason "..."`,
    },
  );
}

const markerOption = (marker: string | null): string => (marker === null ? '' : `--marker "${marker}" `);

function mismatch(message: string, marker: string | null, { ledger }: KnownHead): EpsilonflowError {
  return new EpsilonflowError('LEDGER_MISMATCH', message, {
    hint:
      `Restore ledger ${ledger} from a backup, with its dataset secret, or let EPSILONFLOW_LEDGER_URL name it. ` +
      'If it is lost, so is the count of what was spent; if you begin a new one all the same: ' +
      `epsilonflow ledger acknowledge ${markerOption(marker)}--reason "..."`,
  });
}

/** What marker and machine remember and the ledger neither holds nor has acknowledged. */
export async function discontinuitiesOf(ledger: Ledger, marker: string | null): Promise<Discontinuity[]> {
  const heads: KnownHead[] = [];
  const named = marker === null ? null : readMarker(marker);
  if (named !== null) heads.push(named);
  const identity = await ledger.identity();
  const seen = rememberedHeads()[identity];
  if (seen !== undefined) heads.push({ ledger: identity, sequence: seen.sequence, hash: seen.hash });
  if (marker !== null) {
    heads.push(...rememberedHere().filter(({ ledger: other }) => other !== identity && other !== named?.ledger));
  }
  return ledger.discontinuities({ heads, rowKey: rowsOf([], await ledgerSecret(ledgerUrl())).key });
}

/**
 * Goes on with a ledger in spite of what is remembered: a row of its own for each difference, and marker and memory say
 * what is there now. Returns what was acknowledged.
 */
export async function acknowledgeLedger(
  ledger: Ledger,
  marker: string | null,
  why: { author: string; reason: string },
): Promise<Discontinuity[]> {
  const found = await discontinuitiesOf(ledger, marker);
  if (found.length === 0) return found;
  // The row that says so is written first: after a crash in between it still holds.
  await ledger.acknowledge(found, why);
  await writeHead(ledger, { overwrite: true });
  if (marker !== null && readMarker(marker) !== null) await writeMarker(ledger, marker);
  return found;
}

/** Makes the marker unless it is there. Returns whether it was made. */
export async function ensureMarker(ledger: Ledger, marker: string): Promise<boolean> {
  if (readMarker(marker) !== null) return false;
  await writeMarker(ledger, marker);
  return true;
}

async function writeMarker(ledger: Ledger, file: string): Promise<void> {
  const kind = ledgerUrl().startsWith('sqlite:') ? 'sqlite' : 'postgres';
  const marker: Marker = { ledger: await ledger.identity(), kind, ...(await ledger.head()) };
  await writeDurably(file, markerText(marker));
}

function rememberedHeads(): RememberedHeads {
  try {
    return JSON.parse(readFileSync(statePaths.ledgerHeads(), 'utf8')) as RememberedHeads;
  } catch (error) {
    // Lost with the run state: then only marker, workflow histories and tracker remember.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return {};
    throw error;
  }
}

/** Heads of the ledgers that were kept where the ledger is now. */
function rememberedHere(): KnownHead[] {
  const here = ledgerName(ledgerUrl());
  return Object.entries(rememberedHeads()).flatMap(([ledger, { sequence, hash, at }]) =>
    at === here ? [{ ledger, sequence, hash }] : [],
  );
}

/** Whether this machine has used any ledger. */
export const remembersLedgers = (): boolean => Object.keys(rememberedHeads()).length > 0;

/** Processes do it one after another, and never go back: a lower row would let a copy pass that lacks the ones after it. */
async function writeHead(
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
]);

/** Remembers the head after each change of the chain. */
function remembering(ledger: Ledger, url: string): Ledger {
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
