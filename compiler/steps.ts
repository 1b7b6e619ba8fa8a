/** @file Steps before they are instantiated: their inputs, the axes that they use, and the order among them. */

import type { Position } from '../schemas/errors.ts';
import type { StepKind } from '../schemas/plan.ts';
import { expressionForms, isExpression, parseExpression } from './expressions.ts';
import { didYouMean, type FaultList, suggestion } from './faults.ts';
import { type InputKind, kinds } from './kinds.ts';
import { type Axis, findValue } from './matrix.ts';
import { child, entriesOf, itemsOf, type Source, type SourceMap, type SourceScalar, stringOf } from './source.ts';
import { stepKinds } from './spec-schema.ts';

/** What the checks of references need to know of the rest of the spec. */
export interface Surroundings {
  axes: Axis[];
  datasets: ReadonlySet<string>;
  models: ReadonlySet<string>;
}

export interface StepTemplate {
  name: string;
  kind: StepKind;
  at: Position;
  needsApproval: boolean;
  needsCard: boolean;
  with: SourceMap;
  inputs: InputTemplate[];
  needs: { step: string; at: Position }[];
  /** Indices of the axes that parameters and inputs name themselves. */
  direct: Set<number>;
  /** Indices of the axes whose combinations the step runs for, ascending. */
  axes: number[];
  /** `compare`: indices of the axes that are gathered. */
  over: number[];
  /** Whether an input could not be resolved; the step is then checked as far as it goes, and makes no nodes. */
  faulty: boolean;
}

export interface InputTemplate {
  /** `data`, `arms.NAME` ... */
  role: string;
  at: Position;
  target: InputTarget;
}

export type InputTarget =
  | { type: 'name'; of: 'dataset' | 'model'; name: string }
  | { type: 'axis'; of: 'dataset' | 'model'; axis: number }
  /** `pins`: axis index -> value index. */
  | { type: 'step'; step: string; pins: Map<number, number> };

/** Reads all steps of a known kind. */
export function readSteps(source: Source | undefined, around: Surroundings, faults: FaultList): StepTemplate[] {
  const kindOf = new Map<string, StepKind>();
  for (const [name, { value }] of entriesOf(source)) {
    const kind = stringOf(child(value, 'uses'));
    if (kind !== undefined && (stepKinds as readonly string[]).includes(kind)) kindOf.set(name, kind as StepKind);
  }
  const names = entriesOf(source).map(([name]) => name);
  const templates: StepTemplate[] = [];
  for (const [name, { key, value }] of entriesOf(source)) {
    const kind = kindOf.get(name);
    const parameters = child(value, 'with');
    if (kind === undefined || parameters?.type !== 'map') continue;
    const reader = new StepReader(name, kind, names, kindOf, around, faults);
    const template = reader.read(key.at, parameters, child(value, 'needs'));
    templates.push({
      ...template,
      needsApproval: stringOf(child(value, 'approval')) === 'required',
      needsCard: stringOf(child(value, 'device')) === 'gpu',
    });
  }
  return templates;
}

class StepReader {
  readonly #name: string;
  readonly #kind: StepKind;
  readonly #names: string[];
  readonly #kindOf: Map<string, StepKind>;
  readonly #around: Surroundings;
  readonly #faults: FaultList;
  readonly #direct = new Set<number>();
  readonly #inputs: InputTemplate[] = [];
  #faulty = false;

  constructor(
    name: string,
    kind: StepKind,
    names: string[],
    kindOf: Map<string, StepKind>,
    around: Surroundings,
    faults: FaultList,
  ) {
    this.#name = name;
    this.#kind = kind;
    this.#names = names;
    this.#kindOf = kindOf;
    this.#around = around;
    this.#faults = faults;
  }

  read(
    at: Position,
    parameters: SourceMap,
    needs: Source | undefined,
  ): Omit<StepTemplate, 'needsApproval' | 'needsCard'> {
    const roles = kinds[this.#kind].inputs;
    for (const [key, { value }] of parameters.entries) {
      const accepts = roles[key]?.accepts;
      if (accepts === undefined) this.#parameter(value);
      else if (value.type === 'map') {
        for (const [arm, entry] of value.entries) this.#input(`${key}.${arm}`, entry.value, accepts);
      } else if (value.type === 'list') {
        for (const [index, item] of value.items.entries()) this.#input(`${key}.${index}`, item, accepts);
      } else this.#input(key, value, accepts);
    }
    const template: Omit<StepTemplate, 'needsApproval' | 'needsCard'> = {
      name: this.#name,
      kind: this.#kind,
      at,
      with: parameters,
      inputs: this.#inputs,
      needs: this.#needs(needs),
      direct: this.#direct,
      axes: [],
      over: [],
      faulty: this.#faulty,
    };
    if (this.#kind === 'compare') template.over = this.#over(child(parameters, 'over'));
    return template;
  }

  /** A parameter may hold matrix expressions anywhere. */
  #parameter(value: Source): void {
    for (const item of itemsOf(value)) this.#parameter(item);
    for (const [, entry] of entriesOf(value)) this.#parameter(entry.value);
    if (value.type !== 'scalar' || !isExpression(value)) return;
    const expression = parseExpression(value, this.#faults);
    if (expression === undefined) this.#faulty = true;
    else if (expression.type === 'matrix') {
      if (this.#axis(expression.axis, expression.at) === undefined) this.#faulty = true;
    } else {
      this.#faults.add(
        'SPEC_EXPRESSION',
        `A parameter can't be the step "${expression.step}"`,
        expression.at,
        `Steps stand in the inputs of ${this.#kind}: ${Object.keys(kinds[this.#kind].inputs).join(', ')}.`,
      );
    }
  }

  #input(role: string, value: Source, accepts: readonly InputKind[]): void {
    if (value.type !== 'scalar' || typeof value.value !== 'string') {
      this.#faulty = true;
      return;
    }
    const target = isExpression(value) ? this.#expression(role, value, accepts) : this.#literal(role, value, accepts);
    if (target === undefined) this.#faulty = true;
    else this.#inputs.push({ role, at: value.at, target });
  }

  #literal(role: string, value: SourceScalar, accepts: readonly InputKind[]): InputTarget | undefined {
    const name = String(value.value);
    const of = namedKind(accepts);
    if (of !== undefined && this.#resources(of).has(name)) return { type: 'name', of, name };
    if (/\{\{|\$\{/.test(name)) {
      this.#faults.add('SPEC_EXPRESSION', `Malformed expression "${name}"`, value.at, expressionForms);
      return undefined;
    }
    if (this.#names.includes(name)) {
      const hint = `Write "\${{ steps.${name} }}".`;
      this.#faults.add('SPEC_EXPRESSION', `"${name}" is a step; a step is named by an expression`, value.at, hint);
    } else if (of === undefined) {
      const hint = `Write "\${{ steps.STEP }}" with a step of kind ${accepts.join(' or ')}.`;
      this.#faults.add('SPEC_UNKNOWN_REFERENCE', `"${role}" must be a step, not "${name}"`, value.at, hint);
    } else this.#unknownResource(of, name, value.at);
    return undefined;
  }

  #unknownResource(of: 'dataset' | 'model', name: string, at: Position): void {
    const other = of === 'dataset' ? 'model' : 'dataset';
    if (this.#resources(other).has(name)) {
      this.#faults.add('SPEC_REFERENCE_KIND', `"${name}" is a ${other}; a ${of} is needed here`, at);
      return;
    }
    const isPath = /[/\\]|\.\w+$/.test(name);
    const declared = of === 'model' ? `models: { NAME: { path: ${name} } }` : `datasets: { NAME: { files: ... } }`;
    const hint = isPath
      ? `It looks like a path. Declare it, ${declared}, and write NAME here.`
      : suggestion(name, this.#resources(of), of);
    this.#faults.add('SPEC_UNKNOWN_REFERENCE', `The spec has no ${of} "${name}"`, at, hint);
  }

  #resources(of: 'dataset' | 'model'): ReadonlySet<string> {
    return of === 'dataset' ? this.#around.datasets : this.#around.models;
  }

  #expression(role: string, value: SourceScalar, accepts: readonly InputKind[]): InputTarget | undefined {
    const expression = parseExpression(value, this.#faults);
    if (expression === undefined) return undefined;
    const { at } = expression;
    if (expression.type === 'matrix') {
      const axis = this.#axis(expression.axis, at);
      if (axis === undefined) return undefined;
      const of = namedKind(accepts);
      if (of === undefined) {
        const hint = `Write "\${{ steps.STEP }}" with a step of kind ${accepts.join(' or ')}.`;
        this.#faults.add('SPEC_REFERENCE_KIND', `"${role}" must be a step, not an axis`, at, hint);
        return undefined;
      }
      return this.#axisNames(axis, of) ? { type: 'axis', of, axis } : undefined;
    }
    const kind = this.#kindOf.get(expression.step);
    if (!this.#names.includes(expression.step)) {
      const hint = suggestion(expression.step, this.#names, 'step');
      this.#faults.add('SPEC_UNKNOWN_REFERENCE', `The spec has no step "${expression.step}"`, at, hint);
      return undefined;
    }
    if (kind === undefined) return undefined;
    if (!accepts.includes(kind)) {
      const hint = `"${role}" takes: ${accepts.join(', ')}.`;
      this.#faults.add('SPEC_REFERENCE_KIND', `Step "${expression.step}" is a ${kind}`, at, hint);
      return undefined;
    }
    const pins = this.#pins(expression.pins, at);
    return pins === undefined ? undefined : { type: 'step', step: expression.step, pins };
  }

  /** Whether each value of an axis names a dataset or model; each that doesn't is a fault where it stands. */
  #axisNames(axis: number, of: 'dataset' | 'model'): boolean {
    let all = true;
    for (const { value } of this.#around.axes[axis]!.values) {
      const name = stringOf(value);
      if (name !== undefined && this.#resources(of).has(name)) continue;
      all = false;
      if (name !== undefined) this.#unknownResource(of, name, value.at);
      else
        this.#faults.add(
          'SPEC_SCHEMA',
          `Each value of axis "${this.#around.axes[axis]!.name}" must name a ${of}`,
          value.at,
        );
    }
    return all;
  }

  #axis(name: string, at: Position): number | undefined {
    const names = this.#around.axes.map((axis) => axis.name);
    const index = names.indexOf(name);
    if (index >= 0) {
      this.#direct.add(index);
      return index;
    }
    const meant = didYouMean(name, names);
    const hint = meant === undefined ? `Add it to "matrix": ${name}: [...].` : `Did you mean "${meant}"?`;
    this.#faults.add('SPEC_UNKNOWN_REFERENCE', `The matrix has no axis "${name}"`, at, hint);
    // The axis that was meant is not unused.
    if (meant !== undefined) this.#direct.add(names.indexOf(meant));
    return undefined;
  }

  #pins(written: Map<string, string>, at: Position): Map<number, number> | undefined {
    const pins = new Map<number, number>();
    let complete = true;
    const names = this.#around.axes.map((axis) => axis.name);
    for (const [name, text] of written) {
      const axis = names.indexOf(name);
      const value = axis < 0 ? -1 : findValue(this.#around.axes[axis]!, text);
      if (axis < 0) {
        this.#faults.add(
          'SPEC_UNKNOWN_REFERENCE',
          `The matrix has no axis "${name}"`,
          at,
          suggestion(name, names, 'axis'),
        );
      } else if (value < 0) {
        const known = this.#around.axes[axis]!.values.map(({ label }) => String(label));
        const hint = suggestion(text, known, 'value');
        this.#faults.add('SPEC_UNKNOWN_REFERENCE', `Axis "${name}" has no value "${text}"`, at, hint);
      } else pins.set(axis, value);
      complete &&= axis >= 0 && value >= 0;
    }
    return complete ? pins : undefined;
  }

  #needs(source: Source | undefined): { step: string; at: Position }[] {
    const needs: { step: string; at: Position }[] = [];
    for (const item of itemsOf(source)) {
      const step = stringOf(item);
      if (step === undefined) continue;
      if (this.#names.includes(step)) needs.push({ step, at: item.at });
      else {
        const hint = suggestion(step, this.#names, 'step');
        this.#faults.add('SPEC_UNKNOWN_REFERENCE', `The spec has no step "${step}"`, item.at, hint);
      }
    }
    return needs;
  }

  #over(source: Source | undefined): number[] {
    const names = this.#around.axes.map((axis) => axis.name);
    const over: number[] = [];
    for (const item of itemsOf(source)) {
      const name = stringOf(item);
      if (name === undefined) continue;
      const axis = names.indexOf(name);
      if (axis >= 0) over.push(axis);
      else
        this.#faults.add(
          'SPEC_UNKNOWN_REFERENCE',
          `The matrix has no axis "${name}"`,
          item.at,
          suggestion(name, names, 'axis'),
        );
    }
    return over;
  }
}

const namedKind = (accepts: readonly InputKind[]): 'dataset' | 'model' | undefined =>
  accepts.includes('dataset') ? 'dataset' : accepts.includes('model') ? 'model' : undefined;
