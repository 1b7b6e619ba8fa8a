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
  const digest = new TextDigest();
  write(value, (piece) => digest.add(piece));
  return digest.hex();
}

/** sha256 over a text that is given in pieces; none of them begins or ends within a character. */
export class TextDigest {
  #long: Hash | undefined;
  #chunk = '';

  add(piece: string): void {
    this.#chunk += piece;
    if (this.#chunk.length < CHUNK) return;
    this.#long = (this.#long ?? createHash('sha256')).update(this.#chunk);
    this.#chunk = '';
  }

  hex(): string {
    return this.#long === undefined ? hash('sha256', this.#chunk) : this.#long.update(this.#chunk).digest('hex');
  }
}

/**
 * Canonical JSON of many mappings that are alike: values that are the same object are written once, so they may not be
 * changed meanwhile.
 */
export class AlikeMappings {
  readonly #texts = new Map<object, string>();
  #names: readonly string[] = [];
  #sorted: readonly string[] = [];

  /** Canonical JSON of a value; undefined for undefined. */
  valueOf(value: unknown): string | undefined {
    if (typeof value !== 'object' || value === null) return value === undefined ? undefined : canonicalJson(value);
    let text = this.#texts.get(value);
    if (text === undefined) this.#texts.set(value, (text = canonicalJson(value)));
    return text;
  }

  /** Canonical JSON of a mapping; `valueOf` gives the texts of its values. */
  textOf(
    mapping: object,
    valueOf = (_name: string, value: unknown): string | undefined => this.valueOf(value),
  ): string {
    let text = '';
    for (const name of this.#sortedNames(mapping)) {
      const value = valueOf(name, (mapping as Record<string, unknown>)[name]);
      if (value !== undefined) text += `${text === '' ? '' : ','}${quoted(name)}:${value}`;
    }
    return `{${text}}`;
  }

  /** Those of the mapping before, where the names are the same. */
  #sortedNames(mapping: object): readonly string[] {
    const names = Object.keys(mapping);
    if (names.length !== this.#names.length || names.some((name, place) => name !== this.#names[place])) {
      this.#names = names;
      this.#sorted = names.toSorted();
    }
    return this.#sorted;
  }
}
