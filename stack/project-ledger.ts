/**
 * @file The ledger as commands and workers open it: compared with what the project's marker and this machine remember of
 * it, so that a lost, exchanged or older one is not spent on.
 */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

import {
  headOf,
  ledgerSecret,
  markerText,
  openLedger,
  readMarker,
  rowsOf,
  type Discontinuity,
  type KnownHead,
  type Ledger,
  type Marker,
  type RememberedHead,
} from '../privacy/ledger/index.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { writeDurably } from '../store/disk.ts';
import { rememberedHeads, rememberedHere, remembering, writeHead } from './ledger-heads.ts';
import { ledgerUrl, statePaths } from './paths.ts';

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

/**
 * @param recorded rows that others than marker and machine remember, of this or other ledgers
 * @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK
 */
export async function requireContinuity(
  ledger: Ledger,
  marker: string | null,
  recorded: readonly RememberedHead[] = [],
): Promise<void> {
  const [first] = await discontinuitiesOf(ledger, marker, recorded);
  if (first !== undefined) throw refusalOf(first, marker);
}

/**
 * @param heads rows that the ledger held, as those remember who use it
 * @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK
 */
async function requireHeads(ledger: Ledger, heads: RememberedHead[]): Promise<void> {
  const [lost] = heads.length === 0 ? [] : await ledger.discontinuities({ heads, rowKey: null });
  if (lost !== undefined) throw refusalOf(lost, null);
}

/** What this machine remembers of the ledger. */
async function rememberedOf(ledger: Ledger): Promise<RememberedHead[]> {
  const identity = await ledger.identity();
  const seen = rememberedHeads()[identity];
  if (seen === undefined) return [];
  return [{ ledger: identity, sequence: seen.sequence, hash: seen.hash, source: statePaths.ledgerHeads() }];
}

function refusalOf(first: Discontinuity, marker: string | null): EpsilonflowError {
  if (first.problem === 'secret-lost') {
    return new EpsilonflowError('LEDGER_MISMATCH', 'The dataset secret is not the one that the ledger was kept with.', {
      hint:
        'Restore it from a backup. If it is lost, records of old and new data can not be compared any more; ' +
        `if you go on all the same: epsilonflow ledger acknowledge ${markerOption(marker)}--reason "..."`,
    });
  }
  const { source, sequence } = first.expected;
  if (first.problem === 'exchanged') {
    const what =
      source === statePaths.ledgerHeads()
        ? 'the one that was kept in its place before'
        : `the one that ${source} names`;
    return mismatch(`The privacy ledger is not ${what}.`, marker, first.expected);
  }
  return new EpsilonflowError(
    'LEDGER_ROLLED_BACK',
    `The privacy ledger lacks row ${sequence}, which ${source} names: it is an older copy.`,
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

/**
 * What marker and machine remember, or others have recorded of this ledger, and it neither holds nor has acknowledged;
 * of lost rows the newest first.
 */
export async function discontinuitiesOf(
  ledger: Ledger,
  marker: string | null,
  recorded: readonly RememberedHead[] = [],
): Promise<Discontinuity[]> {
  const heads: RememberedHead[] = [];
  const named = marker === null ? null : readMarker(marker);
  if (marker !== null && named !== null) heads.push({ ...named, source: marker });
  const identity = await ledger.identity();
  const source = statePaths.ledgerHeads();
  heads.push(...(await rememberedOf(ledger)));
  if (marker !== null) {
    const others = rememberedHere().filter(({ ledger: other }) => other !== identity && other !== named?.ledger);
    heads.push(...others.map((head) => ({ ...head, source })));
  }
  heads.push(...recorded.filter((head) => head.ledger === identity));
  const isFirst = ({ ledger: of, sequence, hash }: KnownHead, place: number): boolean =>
    heads.findIndex((other) => other.ledger === of && other.sequence === sequence && other.hash === hash) === place;
  const once = heads.filter(isFirst);
  const own = once.filter((head) => head.ledger === identity).sort((a, b) => b.sequence - a.sequence);
  return ledger.discontinuities({
    heads: [...once.filter((head) => head.ledger !== identity), ...own],
    rowKey: rowsOf([], await ledgerSecret(ledgerUrl())).key,
  });
}

/**
 * Goes on with a ledger in spite of what is remembered: rows of its own say so, and marker and memory say what is there
 * now. Returns what was acknowledged.
 */
export async function acknowledgeLedger(
  ledger: Ledger,
  marker: string | null,
  why: { author: string; reason: string },
  recorded: readonly RememberedHead[] = [],
): Promise<Discontinuity[]> {
  const found = await discontinuitiesOf(ledger, marker, recorded);
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
  const marker: Marker = { kind, ...(await headOf(ledger)) };
  await writeDurably(file, markerText(marker));
}

/** The ledger of a process that lives long. */
export interface HeldLedger {
  /**
   * Opened at the first use, and anew when another file lies in its place by now.
   *
   * @param known a row that it must hold
   * @throws EpsilonflowError LEDGER_MISMATCH, LEDGER_ROLLED_BACK; what opening throws
   */
  use(known?: KnownHead | null): Promise<Ledger>;
  close(): Promise<void>;
}

export function holdLedger(): HeldLedger {
  let held: Promise<Ledger> | null = null;
  const open = (known: KnownHead | null): Promise<Ledger> => {
    // What a run reserves on was there before its worker: a lost ledger is not made anew under it.
    const opening = openProjectLedger(null, { remembered: true, known });
    opening.catch(() => (held = held === opening ? null : held));
    return opening;
  };
  return {
    async use(known = null) {
      const before = held;
      // Whoever still works with the old one keeps it open; what they write there is lost, and missed from now on.
      if (before !== null && (await before).isReplaced() && held === before) held = null;
      const ledger = await (held ??= open(known));
      // A database server may have been put back to an older copy while it is connected to.
      await requireHeads(ledger, [
        ...(known === null ? [] : [{ ...known, source: 'an earlier activity of this run' }]),
        ...(await rememberedOf(ledger)),
      ]);
      return ledger;
    },
    close: async () => (await held)?.close(),
  };
}
