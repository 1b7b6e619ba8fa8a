/** @file The matrix: axes, their values, and which combinations of them exist. */

import type { Position } from '../schemas/errors.ts';
import { isExpression } from './expressions.ts';
import { type FaultList, suggestion } from './faults.ts';
import { child, entriesOf, itemsOf, type Source } from './source.ts';

export interface Axis {
  name: string;
  at: Position;
  values: AxisValue[];
}

export interface AxisValue {
  /** What stands in names: the label, or the value itself. */
  label: string | number;
  value: Source;
}

/** A combination: for each of some axes, in their order, the index of its value. */
export type Combination = readonly number[];

export interface Matrix {
  /** In the order of the spec. */
  axes: Axis[];
  /**
   * The distinct combinations that exist for some axes, given by index in ascending order; ordered by value, the
   * first axis slowest.
   */
  project(axes: readonly number[]): Combination[];
}

/** More combinations than this are taken for a mistake. */
const maxCombinations = 1_000_000;

/** Reads `matrix`. Faults in single values leave them out, so that the rest can be checked. */
export function readMatrix(source: Source | undefined, replaced: ReadonlySet<string>, faults: FaultList): Matrix {
  const axes: Axis[] = [];
  for (const [name, { key, value }] of entriesOf(source)) {
    if (name !== 'include' && name !== 'exclude') axes.push({ name, at: key.at, values: readAxis(value, faults) });
  }
  // Values that only `include` brings belong to its combinations alone.
  const listed = axes.map(({ values }) => values.length);
  const included = itemsOf(child(source, 'include')).map((item) =>
    readCombination(item, axes, 'include', replaced, faults),
  );
  const excluded = itemsOf(child(source, 'exclude')).map((item) =>
    readCombination(item, axes, 'exclude', replaced, faults),
  );
  const isKnown = (entry: Map<number, number> | undefined): entry is Map<number, number> => entry !== undefined;
  const components = split(axes.length, [...excluded, ...included].filter(isKnown));
  const expanded = components.map((members) =>
    expand(members, listed, excluded.filter(isKnown), included.filter(isKnown)),
  );
  for (const [index, { combinations }] of expanded.entries()) {
    const first = axes[components[index]![0]!]!;
    if (combinations === undefined)
      faults.add('SPEC_MATRIX', `The matrix has more than ${maxCombinations} combinations`, first.at);
    else if (combinations.length === 0 && components[index]!.every((axis) => listed[axis]! > 0)) {
      const at = child(source, 'exclude')?.at ?? first.at;
      faults.add('SPEC_MATRIX', '"exclude" leaves no combination', at, 'Exclude less, or drop the axis.');
    }
  }
  return { axes, project: projector(expanded) };
}

function readAxis(source: Source, faults: FaultList): AxisValue[] {
  const values: AxisValue[] = [];
  const scalars = new Set<unknown>();
  const labels = new Set<string>();
  const add = (label: string | number, value: Source, at: Position): void => {
    if (value.type === 'scalar' && isExpression(value)) {
      faults.add('SPEC_EXPRESSION', `An axis value can't be an expression: "${String(value.value)}"`, at);
    } else if (labels.has(String(label))) {
      faults.add(
        'SPEC_SCHEMA',
        `Two axis values are called "${label}"`,
        at,
        'Keep one, or give them labels of their own.',
      );
    } else {
      labels.add(String(label));
      values.push({ label, value });
    }
  };
  for (const item of itemsOf(source)) {
    // Equal values are reported by the schema.
    if (item.type !== 'scalar' || item.value === null || scalars.has(item.value)) continue;
    scalars.add(item.value);
    add(typeof item.value === 'boolean' ? String(item.value) : item.value, item, item.at);
  }
  for (const [label, { key, value }] of entriesOf(source)) add(label, value, key.at);
  return values;
}

/** An `include` or `exclude` entry as axis index -> value index. `include` may bring a new scalar value along. */
function readCombination(
  source: Source,
  axes: Axis[],
  list: 'include' | 'exclude',
  replaced: ReadonlySet<string>,
  faults: FaultList,
): Map<number, number> | undefined {
  const combination = new Map<number, number>();
  let complete = true;
  for (const [name, { key, value }] of entriesOf(source)) {
    const axis = axes.findIndex((candidate) => candidate.name === name);
    if (axis < 0) {
      const names = axes.map((candidate) => candidate.name);
      faults.add(
        'SPEC_UNKNOWN_REFERENCE',
        `"${list}" names an unknown axis "${name}"`,
        key.at,
        suggestion(name, names, 'axis'),
      );
      complete = false;
      continue;
    }
    if (value.type !== 'scalar' || value.value === null) continue;
    const { values } = axes[axis]!;
    let index = findValue(axes[axis]!, String(value.value));
    if (index < 0 && list === 'include') {
      index = values.push({ label: typeof value.value === 'boolean' ? String(value.value) : value.value, value }) - 1;
    }
    if (index < 0) {
      complete = false;
      // A profile that narrows an axis makes exclusions of its former values idle, not wrong.
      if (!replaced.has(name)) {
        const hint = suggestion(
          String(value.value),
          values.map(({ label }) => String(label)),
          'value',
        );
        faults.add('SPEC_UNKNOWN_REFERENCE', `Axis "${name}" has no value "${String(value.value)}"`, value.at, hint);
      }
      continue;
    }
    combination.set(axis, index);
  }
  return complete && combination.size > 0 ? combination : undefined;
}

/** Index of the value that a text names by label or, for a labelled scalar, by value; -1 when there is none. */
export function findValue(axis: Axis, text: string): number {
  const same = (candidate: string | number): boolean =>
    String(candidate) === text || (typeof candidate === 'number' && text !== '' && Number(text) === candidate);
  const byLabel = axis.values.findIndex(({ label }) => same(label));
  if (byLabel >= 0) return byLabel;
  return axis.values.findIndex(
    ({ value }) =>
      value.type === 'scalar' &&
      (typeof value.value === 'string' || typeof value.value === 'number') &&
      same(value.value),
  );
}

/** Groups of axes that `include` and `exclude` tie together; the others stand alone. */
function split(count: number, ties: Map<number, number>[]): number[][] {
  const group = Array.from({ length: count }, (_, axis) => axis);
  for (const tie of ties) {
    const [first, ...others] = [...tie.keys()];
    for (const other of others) {
      const [from, to] = [group[other]!, group[first!]!];
      for (let axis = 0; axis < count; axis++) if (group[axis] === from) group[axis] = to;
    }
  }
  const members = new Map<number, number[]>();
  for (let axis = 0; axis < count; axis++) {
    const list = members.get(group[axis]!) ?? [];
    members.set(group[axis]!, list);
    list.push(axis);
  }
  return [...members.values()];
}

interface Component {
  /** Axes, ascending. */
  members: number[];
  /** Undefined: too many. */
  combinations: Combination[] | undefined;
}

function expand(
  members: number[],
  listed: number[],
  excluded: Map<number, number>[],
  included: Map<number, number>[],
): Component {
  const inside = (entry: Map<number, number>): boolean => members.includes([...entry.keys()][0]!);
  const exclusions = excluded.filter(inside);
  const found = new Map<string, Combination>();
  const size = members.reduce((product, axis) => product * listed[axis]!, 1);
  if (size > maxCombinations) return { members, combinations: undefined };
  for (const combination of product(members.map((axis) => range(listed[axis]!)))) {
    const hit = exclusions.some((entry) => members.every((axis, place) => matches(entry, axis, combination[place]!)));
    if (!hit) found.set(combination.join(), combination);
  }
  for (const entry of included.filter(inside)) {
    const choices = members.map((axis) => (entry.has(axis) ? [entry.get(axis)!] : range(listed[axis]!)));
    for (const combination of product(choices)) found.set(combination.join(), combination);
  }
  return { members, combinations: [...found.values()] };
}

const matches = (entry: Map<number, number>, axis: number, value: number): boolean =>
  !entry.has(axis) || entry.get(axis) === value;

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

function product(choices: number[][]): number[][] {
  let combinations: number[][] = [[]];
  for (const options of choices)
    combinations = combinations.flatMap((head) => options.map((option) => [...head, option]));
  return combinations;
}

/** Ties touch single components only, so a projection is the product of the components' projections. */
function projector(components: Component[]): Matrix['project'] {
  const cache = new Map<string, Combination[]>();
  return (axes) => {
    const key = axes.join();
    const known = cache.get(key);
    if (known !== undefined) return known;
    let rows: number[][] = [[]];
    for (const { members, combinations } of components) {
      const wanted = members.flatMap((axis, place) => (axes.includes(axis) ? [{ place, at: axes.indexOf(axis) }] : []));
      if (wanted.length === 0) continue;
      const parts = new Map<string, number[]>();
      for (const combination of combinations ?? []) {
        const part = wanted.map(({ place }) => combination[place]!);
        parts.set(part.join(), part);
      }
      rows = rows.flatMap((row) =>
        [...parts.values()].map((part) => {
          const next = [...row];
          for (const [index, { at }] of wanted.entries()) next[at] = part[index]!;
          return next;
        }),
      );
    }
    const compare = (a: number[], b: number[]): number => {
      for (let place = 0; place < a.length; place++) if (a[place] !== b[place]) return a[place]! - b[place]!;
      return 0;
    };
    rows.sort(compare);
    cache.set(key, rows);
    return rows;
  };
}
