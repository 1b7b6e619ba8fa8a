/** @file YAML text as a tree in which every key and value knows its line and column. */

import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  Scalar,
} from 'yaml';

import { EpsilonflowError, type Position } from '../schemas/errors.ts';
import type { JsonValue } from '../schemas/plan.ts';
import { duplicateKey, yamlFault } from './yaml-faults.ts';

export type Source = SourceScalar | SourceList | SourceMap;

export interface SourceScalar {
  type: 'scalar';
  value: string | number | boolean | null;
  at: Position;
}

export interface SourceList {
  type: 'list';
  items: Source[];
  at: Position;
}

export interface SourceMap {
  type: 'map';
  entries: Map<string, SourceEntry>;
  at: Position;
}

export interface SourceEntry {
  key: SourceScalar;
  value: Source;
}

export interface ParsedSource {
  root: Source;
  faults: EpsilonflowError[];
  /** First line that YAML could not make sense of; what follows it in the tree may be misread. Infinity when none. */
  brokenFrom: number;
}

/** How deep and how large a document may get through aliases, so that a small file can't fill the memory. */
const maxNodes = 1_000_000;

/** Columns that a tab may stand for when the rest of the file is read in spite of it. */
const tabWidths = [2, 4, 8];

/**
 * Reads a YAML document. It never throws: what is wrong is in `faults`, one fault a line, and the rest is read as well
 * as it can be, so that faults of other kinds are found in the same go.
 *
 * `.inf` becomes the string `inf`, as does `none` under a key `epsilon`; NaN and `-.inf` are faults.
 */
export function parseSource(text: string, file: string): ParsedSource {
  const tabs = expandTabs(text);
  const counter = new LineCounter();
  const document = parseDocument(tabs.text, { lineCounter: counter, prettyErrors: false, logLevel: 'error' });
  const positionAt = (offset: number): Position => {
    const { line, col } = counter.linePos(Math.min(offset, tabs.text.length));
    return { file, line, column: Math.max(1, col - (tabs.added.get(line) ?? 0)) };
  };
  const lines = text.split('\n');
  const syntax = new SyntaxFaults();
  for (const line of tabs.added.keys()) {
    syntax.add(
      new EpsilonflowError('SPEC_SYNTAX', 'A tab is used as indentation', {
        hint: 'YAML indents with spaces only: replace the tab.',
        position: { file, line, column: 1 + (lines[line - 1] ?? '').search(/\t/) },
      }),
    );
  }
  let brokenFrom = Infinity;
  for (const error of document.errors) {
    const position = positionAt(error.pos[0]);
    const duplicate = error.code === 'DUPLICATE_KEY';
    // An error at the end of the file is often the end of something opened long before.
    if (!duplicate) brokenFrom = Math.min(brokenFrom, position.line);
    const fault = duplicate ? duplicateKey(tabs.text, error, position) : yamlFault(error, position, lines);
    syntax.add(fault, error.message.startsWith('Unexpected'));
  }
  const builder = new TreeBuilder(document, positionAt);
  const root = builder.build(document.contents, { file, line: 1, column: 1 }, false);
  return { root, faults: [...syntax.faults, ...builder.faults], brokenFrom };
}

/** Keeps the first fault of each line, and of a cascade of unexpected tokens only its head. */
class SyntaxFaults {
  readonly faults: EpsilonflowError[] = [];
  readonly #lines = new Set<number>();
  #unexpected = false;

  /** @param unexpected the parser met a token where none may be. */
  add(fault: EpsilonflowError, unexpected = false): void {
    const line = fault.position?.line ?? 0;
    const duplicate = fault.code === 'SPEC_DUPLICATE_KEY';
    if (!duplicate && (this.#lines.has(line) || (unexpected && this.#unexpected))) return;
    this.#lines.add(line);
    this.#unexpected ||= unexpected;
    this.faults.push(fault);
  }
}

interface ExpandedTabs {
  text: string;
  /** Line -> by how many columns it grew. */
  added: Map<number, number>;
}

/**
 * Replaces tabs in indentation by spaces, so that the rest of the file can be read. What a tab stands for is a guess:
 * of some widths, and of the indentation of the lines around it, the one that leaves the fewest errors.
 */
function expandTabs(text: string): ExpandedTabs {
  const untouched = { text, added: new Map<number, number>() };
  if (!text.includes('\t') || countErrors(text) === 0) return untouched;
  const lines = text.split('\n');
  const hasTab = lines.map((line) => line.trim() !== '' && /^ *\t/.test(line));
  const indentations = lines.map((line) => line.length - line.trimStart().length);
  const isPlain = (index: number): boolean => lines[index]!.trim() !== '' && !hasTab[index];
  const guesses: ((indentation: string, index: number) => number)[] = [
    ...tabWidths.map((width) => (indentation: string) => indentation.replaceAll('\t', ' '.repeat(width)).length),
    (_, index) => indentations.find((_indentation, other) => other > index && isPlain(other)) ?? 0,
    (_, index) => indentations.findLast((_indentation, other) => other < index && isPlain(other)) ?? 0,
  ];
  const candidates = guesses.map((guess): ExpandedTabs => {
    const added = new Map<number, number>();
    const expanded = lines.map((line, index) => {
      if (!hasTab[index]) return line;
      const indentation = /^[ \t]*/.exec(line)![0];
      const width = guess(indentation, index);
      added.set(index + 1, width - indentation.length);
      return ' '.repeat(width) + line.slice(indentation.length);
    });
    return { text: expanded.join('\n'), added };
  });
  const errors = candidates.map((candidate) => countErrors(candidate.text));
  return candidates[errors.indexOf(Math.min(...errors))]!;
}

const countErrors = (text: string): number =>
  parseDocument(text, { prettyErrors: false, logLevel: 'silent' }).errors.length;

class TreeBuilder {
  readonly faults: EpsilonflowError[] = [];
  readonly #document: Document;
  readonly #positionAt: (offset: number) => Position;
  readonly #open = new Set<unknown>();
  #nodes = 0;

  constructor(document: Document, positionAt: (offset: number) => Position) {
    this.#document = document;
    this.#positionAt = positionAt;
  }

  /** @param fallback the place of a value that isn't written, such as that of its key. */
  build(node: unknown, fallback: Position, epsilon: boolean): Source {
    if (isAlias(node)) return this.#alias(node, fallback, epsilon);
    if (++this.#nodes > maxNodes) {
      if (this.#nodes === maxNodes + 1) this.#fault('Aliases make the document too large', fallback);
      return { type: 'scalar', value: null, at: fallback };
    }
    const range = (node as Node | null)?.range;
    const at = range ? this.#positionAt(range[0]) : fallback;
    if (isMap(node)) return { type: 'map', entries: this.#entries(node.items, at, epsilon), at };
    if (isSeq(node)) return { type: 'list', items: node.items.map((item) => this.build(item, at, epsilon)), at };
    if (isScalar(node)) return { type: 'scalar', value: this.#scalar(node, at, epsilon), at };
    return { type: 'scalar', value: null, at: fallback };
  }

  /** @param epsilon the mapping stands under a key `epsilon`: its values are labelled epsilons. */
  #entries(pairs: Pair[], at: Position, epsilon: boolean): Map<string, SourceEntry> {
    const entries = new Map<string, SourceEntry>();
    for (const pair of pairs) {
      const keyNode = isScalar(pair.key) ? pair.key : null;
      const keyAt = keyNode?.range ? this.#positionAt(keyNode.range[0]) : at;
      if (keyNode === null) {
        const hint = 'An expression is written "${{ steps.STEP }}", with the dollar and in quotes.';
        this.#fault('A key must be a plain word', keyAt, isMap(pair.key) ? hint : undefined);
        continue;
      }
      const name = keyNode.value === null ? '' : String(keyNode.value);
      // The first of two equal keys stands; the second was reported by the parser.
      if (entries.has(name)) continue;
      entries.set(name, {
        key: { type: 'scalar', value: name, at: keyAt },
        value: this.build(pair.value, keyAt, epsilon || name === 'epsilon' || name.endsWith('.epsilon')),
      });
    }
    return entries;
  }

  #alias(
    node: { source: string; range?: [number, number, number] | null },
    fallback: Position,
    epsilon: boolean,
  ): Source {
    const at = node.range ? this.#positionAt(node.range[0]) : fallback;
    const target = (node as unknown as { resolve(document: Document): Node | undefined }).resolve(this.#document);
    if (target === undefined) {
      const hint = `Define &${node.source} before it; a text that begins with * stands in quotes.`;
      this.#fault(`Alias *${node.source} names no anchor before it`, at, hint);
    } else if (this.#open.has(target)) {
      const hint = `What &${node.source} names can't hold *${node.source}: write this value out.`;
      this.#fault(`Alias *${node.source} contains itself`, at, hint);
    } else {
      this.#open.add(target);
      const source = this.build(target, at, epsilon);
      this.#open.delete(target);
      return source;
    }
    return { type: 'scalar', value: null, at };
  }

  #scalar(node: Scalar, at: Position, epsilon: boolean): string | number | boolean | null {
    const { value } = node;
    if (typeof value === 'number' && !Number.isFinite(value)) {
      if (value === Infinity) return 'inf';
      this.#fault(`${node.source ?? String(value)} is no usable number`, at, 'Write it in digits, such as 8 or 0.5.');
      return null;
    }
    if (epsilon && value === 'none' && node.type === Scalar.PLAIN) return 'inf';
    if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      return value;
    }
    return String(value);
  }

  #fault(message: string, position: Position, hint?: string): void {
    this.faults.push(
      new EpsilonflowError('SPEC_SYNTAX', message, { position, ...(hint === undefined ? {} : { hint }) }),
    );
  }
}

/** The tree as plain JSON, without places. */
export function toPlain(source: Source): JsonValue {
  if (source.type === 'scalar') return source.value;
  if (source.type === 'list') return source.items.map(toPlain);
  return Object.fromEntries([...source.entries].map(([key, { value }]) => [key, toPlain(value)]));
}

/** {@link toPlain} that gives one value for each tree, however often it is asked: trees of instances share parts. Not to be changed. */
export function sharedPlain(): (source: Source) => JsonValue {
  const known = new WeakMap<Source, JsonValue>();
  const plain = (source: Source): JsonValue => {
    if (source.type === 'scalar') return source.value;
    let value = known.get(source);
    if (value === undefined) {
      value =
        source.type === 'list'
          ? source.items.map(plain)
          : Object.fromEntries([...source.entries].map(([key, entry]) => [key, plain(entry.value)]));
      known.set(source, value);
    }
    return value;
  };
  return plain;
}

/** The value under a key of a mapping; undefined when it isn't there or the source is no mapping. */
export const child = (source: Source | undefined, key: string): Source | undefined =>
  source?.type === 'map' ? source.entries.get(key)?.value : undefined;

/** The entries of a mapping; none when the source is something else. */
export const entriesOf = (source: Source | undefined): [string, SourceEntry][] =>
  source?.type === 'map' ? [...source.entries] : [];

export const itemsOf = (source: Source | undefined): Source[] => (source?.type === 'list' ? source.items : []);

/** The text of a scalar that is a string; undefined otherwise. */
export const stringOf = (source: Source | undefined): string | undefined =>
  source?.type === 'scalar' && typeof source.value === 'string' ? source.value : undefined;

/** The value and its key at a JSON pointer (RFC 6901); the deepest one that exists when the path leaves the tree. */
export function locate(root: Source, pointer: string): { value: Source; key: SourceScalar | null } {
  let value = root;
  let key: SourceScalar | null = null;
  for (const part of pointer.split('/').slice(1)) {
    const name = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (value.type === 'map') {
      const entry = value.entries.get(name);
      if (entry === undefined) break;
      ({ key, value } = entry);
    } else if (value.type === 'list') {
      const item = value.items[Number(name)];
      if (item === undefined) break;
      value = item;
      key = null;
    } else break;
  }
  return { value, key };
}
