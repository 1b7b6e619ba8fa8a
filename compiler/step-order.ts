/** @file Order of the steps, circles among them, and the axes that reach each step through its inputs. */

import type { Position } from '../schemas/errors.ts';
import type { FaultList } from './faults.ts';
import type { Axis } from './matrix.ts';
import { child, entriesOf, itemsOf, type Source, stringOf } from './source.ts';
import type { StepTemplate } from './steps.ts';

/** Steps that a step waits for, each with the place that says so. */
const dependencies = ({ inputs, needs }: StepTemplate): { step: string; at: Position }[] => [
  ...inputs.flatMap(({ target, at }) => (target.type === 'step' ? [{ step: target.step, at }] : [])),
  ...needs,
];

/**
 * The steps in topological order, ties in the order of the spec. Steps in a circle, and what depends on them, are left
 * out; each circle is a fault.
 */
export function orderSteps(steps: StepTemplate[], faults: FaultList): StepTemplate[] {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const ordered = new Set<StepTemplate>();
  let waiting = steps;
  while (waiting.length > 0) {
    const isReady = (step: StepTemplate): boolean =>
      dependencies(step).every(({ step: name }) => !byName.has(name) || ordered.has(byName.get(name)!));
    // One at a time, so that a step comes as early as the order of the spec lets it.
    const next = waiting.find(isReady);
    if (next === undefined) break;
    ordered.add(next);
    waiting = waiting.filter((step) => step !== next);
  }
  reportCycles(waiting, faults);
  return [...ordered];
}

/** One fault for each circle, at the reference that closes it. */
function reportCycles(steps: StepTemplate[], faults: FaultList): void {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (step: StepTemplate): void => {
    path.push(step.name);
    for (const { step: name, at } of dependencies(step)) {
      const next = byName.get(name);
      if (next === undefined || done.has(name)) continue;
      const start = path.indexOf(name);
      if (start < 0) visit(next);
      else {
        const circle = [...path.slice(start), name].join(' -> ');
        faults.add('SPEC_CYCLE', `Steps need each other in a circle: ${circle}`, at, 'Drop one of these references.');
      }
    }
    path.pop();
    done.add(step.name);
  };
  for (const step of steps) if (!done.has(step.name)) visit(step);
}

/** Sets `axes` of each step, in topological order, and checks pins and `over` against them. */
export function inferAxes(ordered: StepTemplate[], axes: Axis[], faults: FaultList): void {
  const byName = new Map(ordered.map((step) => [step.name, step]));
  const axisNames = (indices: Iterable<number>): string => [...indices].map((axis) => axes[axis]!.name).join(', ');
  for (const step of ordered) {
    const used = new Set(step.direct);
    const gathered = new Set<number>();
    const ceilings: { at: Position; free: number[] }[] = [];
    for (const { role, at, target } of step.inputs) {
      if (target.type !== 'step') continue;
      const input = byName.get(target.step);
      if (input === undefined) continue;
      for (const axis of target.pins.keys()) {
        if (input.axes.includes(axis)) continue;
        step.faulty = true;
        const hint = input.axes.length === 0 ? 'It uses no axis.' : `It uses: ${axisNames(input.axes)}.`;
        faults.add('SPEC_UNKNOWN_REFERENCE', `Step "${input.name}" does not use axis "${axes[axis]!.name}"`, at, hint);
      }
      const free = input.axes.filter((axis) => !target.pins.has(axis));
      if (role === 'ceiling') ceilings.push({ at, free });
      else for (const axis of free) (step.over.includes(axis) ? gathered : used).add(axis);
    }
    const overItems = itemsOf(child(step.with, 'over'));
    for (const axis of step.over) {
      const at = overItems.find((item) => item.type === 'scalar' && item.value === axes[axis]!.name)?.at ?? step.at;
      if (step.direct.has(axis)) {
        faults.add('SPEC_COMPARE', `Axis "${axes[axis]!.name}" is gathered and used as a parameter`, at);
      } else if (!gathered.has(axis)) {
        faults.add('SPEC_UNUSED_AXIS', `No arm has the axis "${axes[axis]!.name}"`, at, 'Take it out of "over".');
      }
    }
    step.axes = [...used].filter((axis) => !step.over.includes(axis)).sort((a, b) => a - b);
    for (const { at, free } of ceilings) {
      const loose = free.filter((axis) => !step.axes.includes(axis) && !step.over.includes(axis));
      if (loose.length === 0) continue;
      const pin = axisNames(loose)
        .split(', ')
        .map((name) => `${name}=VALUE`)
        .join(', ');
      faults.add(
        'SPEC_COMPARE',
        `The ceiling varies with ${axisNames(loose)}, which no arm does`,
        at,
        `Pin it: [${pin}].`,
      );
    }
  }
}

/**
 * Each axis must be used by a step. In a step that could not be read, whatever looks like a use counts as one.
 *
 * @param source the spec's `steps`.
 */
export function checkAxesUsed(
  source: Source | undefined,
  steps: StepTemplate[],
  axes: Axis[],
  faults: FaultList,
): void {
  const used = new Set(steps.flatMap((step) => [...step.direct].map((axis) => axes[axis]!.name)));
  const read = new Set(steps.map(({ name }) => name));
  for (const [name, { value }] of entriesOf(source)) if (!read.has(name)) collectAxes(value, used);
  for (const axis of axes) {
    if (used.has(axis.name)) continue;
    const hint = `Use it as \${{ matrix.${axis.name} }} or drop it.`;
    faults.add('SPEC_UNUSED_AXIS', `Nothing uses the axis "${axis.name}"`, axis.at, hint);
  }
}

function collectAxes(source: Source, into: Set<string>): void {
  for (const item of itemsOf(source)) collectAxes(item, into);
  for (const [, { value }] of entriesOf(source)) collectAxes(value, into);
  for (const [, axis] of (stringOf(source) ?? '').matchAll(/matrix\.([\w-]+)/g)) into.add(axis!);
}
