/** @file One text for each JSON value, so that equal values have equal digests. */

import { createHash, hash, type Hash } from 'node:crypto';

import type { JsonValue } from './plan.ts';

/** Takes a text piece by piece; no piece begins or ends within a character. */
type Sink = (piece: string) => void;

/** Characters that are put into a digest at once: long enough to be few, short enough never to be a large string. */
const CHUNK = 8192;

/** Texts that JSON writes as they are, in quotes. */
const plainText = /^[ !#-[\]-~]*$/;

const quoted = (text: string): string => (plainText.test(text) ? `"${text}"` : JSON.stringify(text));

function write(value: unknown, sink: Sink): void {
  if (typeof value === 'string') return sink(quoted(value));
  if (typeof value === 'boolean' || value === null) return sink(String(value));
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no place in JSON`);
    return sink(String(value));
  }
  if (typeof value !== 'object') throw new TypeError(`A ${typeof value} has no place in JSON`);
  if (Array.isArray(value)) return writeList(value, sink);
  let before = '{';
  for (const key of Object.keys(value).sort()) {
    const item = (value as Record<string, unknown>)[key];
    if (item === undefined) continue;
    sink(`${before}${quoted(key)}:`);
    write(item, sink);
    before = ',';
  }
  sink(before === '{' ? '{}' : '}');
}

function writeList(items: readonly unknown[], sink: Sink): void {
  let before = '[';
  for (const item of items) {
    sink(before);
    write(item, sink);
    before = ',';
  }
  sink(before === '[' ? '[]' : ']');
}

/**
 * JSON with sorted keys (by UTF-16 code units) and no spaces; numbers and strings as `JSON.stringify` writes them, as
 * in RFC 8785. Keys with the value `undefined` are left out.
 *
 * @throws TypeError for a number that is not finite and for anything that JSON can't hold.
 */
export function canonicalJson(value: unknown): string {
  let text = '';
  write(value, (piece) => (text += piece));
  return text;
}

/** sha256 over the canonical JSON, hex. Typed interfaces are JSON too, hence `object`. */
export function jsonDigest(value: JsonValue | object): string {
  let long: Hash | undefined;
  let chunk = '';
  write(value, (piece) => {
    chunk += piece;
    if (chunk.length < CHUNK) return;
    long = (long ?? createHash('sha256')).update(chunk);
    chunk = '';
  });
  return long === undefined ? hash('sha256', chunk) : long.update(chunk).digest('hex');
}
