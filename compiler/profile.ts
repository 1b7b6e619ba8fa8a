/** @file Profiles: named overrides of a spec, applied before anything else is read of it. */

import type { FaultList } from './faults.ts';
import { suggestion } from './faults.ts';
import { isExpression } from './expressions.ts';
import { partOf } from './spec-schema.ts';
import { child, entriesOf, parseSource, type Source, type SourceEntry, type SourceMap } from './source.ts';

const overridable = ['datasets', 'models', 'matrix', 'steps', 'failure', 'priority', 'limits', 'waive', 'description'];
const stepKeys = ['uses', 'with', 'needs'];

/**
 * Checks the paths of all profiles and applies the overrides of one to the tree, in place.
 *
 * `matrix.AXIS` replaces an axis; `steps.STEP.PARAMETER` is short for `steps.STEP.with.PARAMETER`.
 *
 * @returns the axes that were replaced.
 */
export function applyProfile(root: Source, profile: string | undefined, faults: FaultList): Set<string> {
  const profiles = partOf(root, 'profiles');
  const names = entriesOf(profiles).map(([name]) => name);
  if (profile !== undefined && !names.includes(profile)) {
    const hint = suggestion(profile, names, 'profile');
    faults.add('SPEC_UNKNOWN_REFERENCE', `The spec has no profile "${profile}"`, profiles?.at ?? root.at, hint);
  }
  const replaced = new Set<string>();
  for (const [name, { value: overrides }] of entriesOf(profiles)) {
    for (const [path, entry] of entriesOf(overrides)) {
      const place = resolvePath(root, path, entry, faults);
      if (place === undefined || name !== profile) continue;
      if (place.parts[0] === 'matrix' && place.parts[1] !== undefined) replaced.add(place.parts[1]);
      set(root as SourceMap, place.parts, entry);
    }
  }
  return replaced;
}

/** Names of the profiles of a spec that has no fault in its syntax. */
export const profilesOf = (text: string, file: string): string[] =>
  entriesOf(partOf(parseSource(text, file).root, 'profiles')).map(([name]) => name);

function resolvePath(
  root: Source,
  path: string,
  entry: SourceEntry,
  faults: FaultList,
): { parts: string[] } | undefined {
  const parts = path.split('.');
  const { at } = entry.key;
  const unknown = (what: string, name: string, known: string[]): undefined => {
    faults.add(
      'SPEC_UNKNOWN_REFERENCE',
      `Profile path "${path}": no ${what} "${name}"`,
      at,
      suggestion(name, known, what),
    );
  };
  const [top = '', name] = parts;
  if (!overridable.includes(top)) return unknown('part that a profile may change', top, overridable);
  if (['datasets', 'models', 'steps', 'matrix'].includes(top)) {
    const known = entriesOf(partOf(root, top)).map(([key]) => key);
    const what = top === 'matrix' ? 'axis' : top.slice(0, -1);
    if (name === undefined || !known.includes(name)) return unknown(what, name ?? '', known);
  }
  if (top === 'steps') {
    if (parts.length < 3) return unknown('parameter', '', []);
    if (!stepKeys.includes(parts[2]!)) parts.splice(2, 0, 'with');
  }
  let value: Source | undefined = root;
  for (const part of parts.slice(0, -1)) {
    value = child(value, part);
    if (value === undefined || value.type === 'map') continue;
    const reason = value.type === 'scalar' && isExpression(value) ? 'is an expression' : 'is no mapping';
    faults.add('SPEC_SCHEMA', `Profile path "${path}": "${part}" ${reason}`, at, 'Override it as a whole.');
    return undefined;
  }
  return { parts };
}

function set(root: SourceMap, parts: string[], { key, value }: SourceEntry): void {
  let map = root;
  for (const part of parts.slice(0, -1)) {
    let next = map.entries.get(part)?.value;
    if (next?.type !== 'map') {
      next = { type: 'map', entries: new Map(), at: key.at };
      map.entries.set(part, { key, value: next });
    }
    map = next;
  }
  map.entries.set(parts.at(-1)!, { key, value });
}
