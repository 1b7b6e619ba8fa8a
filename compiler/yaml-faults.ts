/** @file What the YAML parser finds wrong, in words that tell what to look for. */

import type { YAMLError } from 'yaml';

import { EpsilonflowError, type Position } from '../schemas/errors.ts';

export function duplicateKey(text: string, error: YAMLError, position: Position): EpsilonflowError {
  const key = /^[^:\s]+/.exec(text.slice(error.pos[0]))?.[0] ?? '';
  return new EpsilonflowError('SPEC_DUPLICATE_KEY', `Key "${key}" stands twice in the same mapping`, {
    hint: 'Keep one of the two.',
    position,
  });
}

const sameColumn = 'Keys of one mapping begin at the same column: compare it with the lines around it.';

/** What the parser says most often, in words that tell what to look for. */
const commonFaults: { parser: RegExp; message: string; hint: string }[] = [
  { parser: /^Nested mappings/, message: 'A second key stands where a value is expected', hint: sameColumn },
  { parser: /^All mapping items/, message: 'A key is not indented like the others', hint: sameColumn },
  {
    parser: /^Implicit keys need/,
    message: 'A key lacks its colon, or its value begins on another line',
    hint: 'A key and its colon stand on one line: "key: value".',
  },
  {
    parser: /^Missing closing (["'])/,
    message: 'A quote is opened and never closed',
    hint: 'Close it where the text ends.',
  },
  {
    parser: /^Flow (map|sequence) in block collection/,
    message: 'A { or [ above is never closed',
    hint: 'Close it with } or ], or indent what belongs to it.',
  },
  {
    parser: /multiple documents/,
    message: 'The file holds more than one YAML document',
    hint: 'Keep one: remove the line "---" between them.',
  },
];

export function yamlFault(error: YAMLError, position: Position, lines: string[]): EpsilonflowError {
  const content = lines[position.line - 1] ?? '';
  const near = content.trim().slice(0, 60);
  const shown = near === '' ? '' : `, near "${near}"`;
  const isBareExpression = error.message.startsWith('Unexpected') && /[{[].*(?<!["'])\$\{\{/.test(content);
  const { message, hint } = isBareExpression
    ? {
        message: 'An expression stands without quotes inside { } or [ ]',
        hint: 'Quote it: "${{ matrix.AXIS }}". Plain double quotes only.',
      }
    : (commonFaults.find(({ parser }) => parser.test(error.message)) ?? {
        message: error.message.replace(/[\s.]+$/, ''),
        hint: 'See https://yaml.org/spec/1.2.2 for the syntax; most often quotes or indentation are wrong.',
      });
  return new EpsilonflowError('SPEC_SYNTAX', `${message}${shown}`, { hint, position });
}
