/** @file One text for each JSON value, so that equal values have equal digests. */

import { createHash } from 'node:crypto';

import type { JsonValue } from './plan.ts';

/**
 * JSON with sorted keys (by UTF-16 code units) and no spaces; numbers and strings as `JSON.stringify` writes them, as
 * in RFC 8785. Keys with the value `undefined` are left out.
 *
 * @throws TypeError for a number that is not finite and for anything that JSON can't hold.
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no place in JSON`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object') throw new TypeError(`A ${typeof value} has no place in JSON`);
  const parts: string[] = [];
  for (const key of Object.keys(value).sort()) {
    const item = (value as Record<string, unknown>)[key];
    if (item !== undefined) parts.push(`${JSON.stringify(key)}:${canonicalJson(item)}`);
  }
  return `{${parts.join(',')}}`;
}

/** sha256 over the canonical JSON, hex. Typed interfaces are JSON too, hence `object`. */
export const jsonDigest = (value: JsonValue | object): string =>
  createHash('sha256').update(canonicalJson(value)).digest('hex');
