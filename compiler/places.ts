/** @file Lines of the spec where the values of a node stand. */

import { isExpression, parseExpression } from './expressions.ts';
import { FaultList } from './faults.ts';
import type { Matrix } from './matrix.ts';
import type { PlaceOf } from './misses.ts';
import { child, type Source } from './source.ts';
import type { StepTemplate } from './steps.ts';

/** A value that an axis gives stands in the matrix; one that isn't written has no place. */
export function placesIn(steps: readonly StepTemplate[], { axes }: Matrix): PlaceOf {
  const templates = new Map(steps.map((step) => [step.name, step]));
  return ({ step, axes: labels }, path) => {
    let source: Source | undefined = templates.get(step)?.with;
    for (const part of path) source = child(source, part);
    if (source?.type !== 'scalar' || !isExpression(source)) return source?.at.line ?? null;
    const expression = parseExpression(source, new FaultList());
    if (expression?.type !== 'matrix') return source.at.line;
    const axis = axes.find(({ name }) => name === expression.axis);
    const value = axis?.values.find(({ label }) => label === labels[expression.axis]);
    return (value?.value ?? source).at.line;
  };
}
