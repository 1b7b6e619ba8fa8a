/** @file How faults of a spec are worded: what a value is called, what is wanted in its place, and what to do. */

import type { ErrorObject } from 'ajv';

import { suggestion } from './faults.ts';
import { definitions, type Schema } from './schema-defaults.ts';

export const expressionPath = '#/definitions/expression';

export function nameOf(pointer: string): string {
  const name = lastPart(pointer);
  if (name === undefined) return 'The spec';
  const list = lastPart(pointer.slice(0, pointer.lastIndexOf('/')));
  return /^\d+$/.test(name) && list !== undefined ? `Item ${Number(name) + 1} of "${list}"` : `"${name}"`;
}

export const lastPart = (pointer: string): string | undefined =>
  pointer === '' ? undefined : pointer.split('/').at(-1)!.replaceAll('~1', '/').replaceAll('~0', '~');

export function show(value: unknown): string {
  if (value === null) return 'nothing';
  const text = typeof value === 'string' ? `"${value}"` : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

const typeNames: Record<string, string> = {
  integer: 'a whole number',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
};

/** What a schema wants, in words. */
export function expected(schema: Schema): string {
  if (schema.$ref !== undefined) {
    return schema.$ref === expressionPath ? 'an expression' : expected(definitions[schema.$ref.split('/').at(-1)!]!);
  }
  if (schema.anyOf !== undefined) {
    const parts = schema.anyOf.filter(({ $ref }) => $ref !== expressionPath).map(expected);
    return parts.join(' or ');
  }
  if (schema.const !== undefined) return schema.const === 'inf' ? '.inf' : JSON.stringify(schema.const);
  if (schema.enum !== undefined) return `one of ${schema.enum.map(String).join(', ')}`;
  const types = [schema.type ?? 'object'].flat();
  const bound =
    schema.exclusiveMinimum !== undefined
      ? ` above ${schema.exclusiveMinimum}`
      : schema.minimum !== undefined
        ? ` of at least ${schema.minimum}`
        : '';
  return types.map((type) => typeNames[type] ?? type).join(' or ') + bound;
}

export function bounds({ keyword, instancePath, params }: ErrorObject): string | undefined {
  const { limit } = params as { limit?: number };
  switch (keyword) {
    case 'exclusiveMinimum':
      return epsilonHint(instancePath) ?? `Give a number above ${limit}.`;
    case 'minimum':
      return `Give ${limit} or more.`;
    case 'exclusiveMaximum':
      return `Give a number below ${limit}.`;
    case 'maximum':
      return `Give ${limit} or less.`;
    default:
      return undefined;
  }
}

/** Of training: a budget is a number, and so are the epsilons of noisy counts and of Adam. */
export const epsilonHint = (pointer: string): string | undefined =>
  /(^|\/matrix|\/with)\/epsilon(\/\d+)?$/.test(pointer)
    ? 'Epsilon is above 0; .inf stands for no differential privacy.'
    : undefined;

export const meaning = (called: string, description: string | undefined): string | undefined =>
  description === undefined ? undefined : `${called}: ${description.replace(/(?<=\.) [A-Z`].*/, '')}`;

/** How to write a value of the wrong type as one of a right type, where that is plain. */
export function rewriting(value: unknown, wanted: string, { properties }: Schema): string | undefined {
  if (wanted === 'a mapping') {
    if (Array.isArray(value)) return 'Write each entry as "key: value", without brackets and dashes.';
    if (value === null) return 'What belongs to it stands below it, indented.';
    return properties === undefined ? undefined : `Its keys: ${Object.keys(properties).join(', ')}.`;
  }
  const isScalar = (part: unknown): boolean => typeof part === 'string' || typeof part === 'number';
  const wantsList = wanted.includes('a list');
  if (isScalar(value) && wantsList) return `Write it in brackets: [${String(value)}].`;
  if (Array.isArray(value) && value.length === 1 && isScalar(value[0]) && !wantsList) {
    return `Write it without brackets: ${String(value[0])}.`;
  }
  const isNumber = typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value));
  return isNumber && /number|^\d+$/.test(wanted) ? `Write it without quotes: ${value}.` : undefined;
}

export function keyHint(key: string, known: string[]): string | undefined {
  if (/^\d+$/.test(key)) return 'Numbers are written without commas: 20000.';
  if (key === '<<') return 'Merge keys are not read: write the keys out.';
  const bare = known.find((name) => key.startsWith(`${name}:`));
  return bare === undefined ? suggestion(key, known, 'key') : `Put a space after the colon of "${bare}".`;
}
