/**
 * @file Which records a dataset holds, as a set of keyed hashes that tells nothing without the ledger's secret: two
 * datasets that share records share hashes, whatever their order, format and labels. Pure.
 */

import { createHash, createHmac } from 'node:crypto';

import { corrupt } from './refusals.ts';

/** Raise when what is hashed changes: sets of different forms do not compare. */
const form = 'epsilonflow-rows-1';

export interface DatasetRows {
  /** Tells secrets apart, hex: hashes under different secrets have nothing in common. */
  key: string;
  /** Distinct and ascending. Two sets of a million rows share one by chance with probability 5e-8. */
  hashes: BigUint64Array;
}

/**
 * Text as it is compared: readers of other formats may change line ends, and editors compose letters differently. Labels
 * are left out, since the same person's text with another label is still theirs.
 */
const comparable = (text: string): string => text.normalize('NFC').replace(/\s+/g, ' ').trim();

/** Characters, white space evened out, from which on a text does not recur by chance among unrelated writers. */
const tellingLength = 40;

/** Rows of data that are called public. */
export interface PublicRows extends DatasetRows {
  /** Those of texts of at least `tellingLength` characters. */
  telling: BigUint64Array;
}

/**
 * HMAC-SHA256 of each record's text under a key derived from `secret`, cut to 64 bits. Empty texts count for nothing:
 * they stand for invalid records too.
 */
export function rowsOf(texts: Iterable<string>, secret: Buffer): DatasetRows {
  const { key, hashes } = publicRowsOf(texts, secret);
  return { key, hashes };
}

/** The same of data that are called public, with the rows that tell whose they are apart. */
export function publicRowsOf(texts: Iterable<string>, secret: Buffer): PublicRows {
  const rowKey = createHmac('sha256', secret).update(form).digest();
  const seen = new Set<bigint>();
  const telling = new Set<bigint>();
  for (const text of texts) {
    const shown = comparable(text);
    if (shown === '') continue;
    const hash = createHmac('sha256', rowKey).update(shown).digest().readBigUInt64LE();
    seen.add(hash);
    if (shown.length >= tellingLength) telling.add(hash);
  }
  const key = createHmac('sha256', rowKey).update('fingerprint').digest('hex').slice(0, 32);
  return { key, hashes: BigUint64Array.from(seen).sort(), telling: BigUint64Array.from(telling).sort() };
}

/** Number of common hashes. */
export function sharedRows(a: BigUint64Array, b: BigUint64Array): number {
  let shared = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const left = a[i]!;
    const right = b[j]!;
    if (left === right) shared += 1;
    if (left <= right) i += 1;
    if (right <= left) j += 1;
  }
  return shared;
}

/** Those of `a` that are not in `b`. */
export function rowsWithout(a: BigUint64Array, b: BigUint64Array): BigUint64Array {
  const kept = new BigUint64Array(a.length);
  let count = 0;
  for (let i = 0, j = 0; i < a.length; i += 1) {
    while (j < b.length && b[j]! < a[i]!) j += 1;
    if (j === b.length || b[j] !== a[i]) kept[count++] = a[i]!;
  }
  return kept.slice(0, count);
}

/** All of several sets that share nothing, ascending. */
export function unionOfRows(parts: readonly BigUint64Array[]): BigUint64Array {
  const union = new BigUint64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    union.set(part, at);
    at += part.length;
  }
  return union.sort();
}

/** Base64 of the hashes, 8 bytes each, least significant first. */
export const encodeRows = (hashes: BigUint64Array): string =>
  Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength).toString('base64');

/** @throws EpsilonflowError LEDGER_CORRUPT */
export function decodeRows(text: string): BigUint64Array {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length % 8 !== 0) throw corrupt('a set of records is cut');
  const hashes = new BigUint64Array(bytes.length / 8);
  Buffer.from(hashes.buffer).set(bytes);
  return hashes;
}

/** What the chain says of a set of rows: changes with every one of them, and tells none. */
export const rowsDigest = (hashes: BigUint64Array): string =>
  createHash('sha256')
    .update(Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength))
    .digest('hex');

/** Records that may be common without meaning anything: greetings, boilerplate, chance. */
const toleratedShare = 0.001;
const toleratedAlways = 2;
const toleratedAtMost = 100;

/**
 * Whether two sets of `size` and `other` rows of which `shared` are common, `acknowledged` of them on purpose, hold
 * data of the same people: more than 0.1 % of the smaller set, at least 2 and at most 100 rows, or all of it.
 */
export function overlaps(size: number, other: number, shared: number, acknowledged: number): boolean {
  const smaller = Math.min(size, other);
  const tolerated = Math.min(toleratedAtMost, Math.max(toleratedAlways, toleratedShare * smaller));
  return shared - acknowledged > tolerated || (shared === smaller && shared > acknowledged);
}

/** Part of the smaller set from which on short texts that recur are no chance either. */
const mostByChance = 0.1;

/**
 * Whether data that are called public hold records of a private account: as `overlaps`, but short texts count only
 * where a tenth of the smaller set recurs. A model that learned how people write short texts writes some of them again.
 */
export function holdsRecordsOf({ hashes, telling }: PublicRows, account: BigUint64Array): boolean {
  if (overlaps(hashes.length, account.length, sharedRows(telling, account), 0)) return true;
  const smaller = Math.min(hashes.length, account.length);
  const shared = sharedRows(hashes, account);
  return shared > Math.max(toleratedAlways, mostByChance * smaller) || (shared === smaller && shared > 0);
}
