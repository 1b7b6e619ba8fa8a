/** @file The expressions `${{ ... }}` of a spec: what they may say and how they are read. */

import type { Position } from '../schemas/errors.ts';
import type { FaultList } from './faults.ts';
import type { SourceScalar } from './source.ts';

export type Expression = MatrixExpression | StepExpression;

/** `${{ matrix.AXIS }}` */
export interface MatrixExpression {
  type: 'matrix';
  axis: string;
  at: Position;
}

/** `${{ steps.STEP }}` or `${{ steps.STEP[AXIS=VALUE, ...] }}` */
export interface StepExpression {
  type: 'step';
  step: string;
  /** Axis -> value or label, as written; `none` and `.inf` are `inf`. */
  pins: Map<string, string>;
  at: Position;
}

/** How an expression is written. */
export const expressionForms = 'Write ${{ matrix.AXIS }}, ${{ steps.STEP }} or ${{ steps.STEP[AXIS=VALUE] }}.';
const grammar = /^(matrix|steps)\.([A-Za-z][\w-]*)\s*(?:\[([^\]]*)\])?$/;

/** Whether a scalar looks like an expression, well formed or not. */
export const isExpression = ({ value }: SourceScalar): boolean => typeof value === 'string' && value.includes('${{');

/** Reads an expression; undefined, with a fault, when it is malformed. */
export function parseExpression(source: SourceScalar, faults: FaultList): Expression | undefined {
  const { at } = source;
  const text = String(source.value);
  const inner = /^\s*\$\{\{(.*)\}\}\s*$/.exec(text)?.[1];
  if (inner === undefined || inner.includes('${{')) {
    faults.add('SPEC_EXPRESSION', `An expression must be the whole value: "${text}"`, at, expressionForms);
    return undefined;
  }
  const [, root, name, brackets] = grammar.exec(inner.trim()) ?? [];
  if (root === undefined || name === undefined || (root === 'matrix' && brackets !== undefined)) {
    faults.add('SPEC_EXPRESSION', `Malformed expression "${text.trim()}"`, at, expressionForms);
    return undefined;
  }
  if (root === 'matrix') return { type: 'matrix', axis: name, at };
  const pins = new Map<string, string>();
  for (const part of brackets === undefined ? [] : brackets.split(',')) {
    const [, axis, value] = /^\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*$/.exec(part) ?? [];
    if (axis === undefined || value === undefined || value === '' || pins.has(axis)) {
      faults.add('SPEC_EXPRESSION', `Malformed pin "${part.trim()}" in "${text.trim()}"`, at, expressionForms);
      return undefined;
    }
    pins.set(axis, value === '.inf' || (axis === 'epsilon' && value === 'none') ? 'inf' : value);
  }
  return { type: 'step', step: name, pins, at };
}
