/** @file `epsilonflow explain`: what an error code means and what can be done about it. */

import type { Command } from 'commander';

import { closest } from 'fastest-levenshtein';

import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { action, formatTable, printJson, printLine, styled } from './output.ts';

export function explainCommand(program: Command): void {
  program
    .command('explain')
    .description('Tell what an error code means and what to do about it; without a code, list all.')
    .argument('[code]', 'code as errors show it')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  epsilonflow explain BUDGET_REFUSED')
    .action(action(explain));
}

const codes = Object.keys(errorCodes) as ErrorCode[];

function explain(asked: string | undefined, { json }: { json?: boolean }): Promise<void> {
  if (asked === undefined) {
    if (json) printJson({ codes: codes.map(described) });
    else
      printLine(
        formatTable(
          ['code', 'exit', 'meaning'],
          codes.map((code) => [code, ...inTable(code)]),
        ),
      );
    return Promise.resolve();
  }
  const code = codeOf(asked);
  const { summary, remedy, exit, retryable } = errorCodes[code];
  if (json) {
    printJson(described(code));
    return Promise.resolve();
  }
  printLine(`${styled('bold', code)}: ${summary}`);
  printLine(`\n${remedy}\n`);
  printLine(
    `Exit code ${exit}. ${retryable ? 'A step that ends so is tried again.' : 'A step that ends so is not tried again.'}`,
  );
  return Promise.resolve();
}

const described = (code: ErrorCode): object => {
  const { exit, retryable, summary, remedy } = errorCodes[code];
  return { code, exit, retryable, summary, remedy };
};

const inTable = (code: ErrorCode): [string, string] => [String(errorCodes[code].exit), errorCodes[code].summary];

/** @throws EpsilonflowError ARGUMENT_INVALID, with the nearest code */
function codeOf(asked: string): ErrorCode {
  const upper = asked.toUpperCase().replaceAll('-', '_');
  const found = codes.find((code) => code === upper);
  if (found) return found;
  const parts = upper.split('_');
  const alike = codes.filter((code) => parts.some((part) => code.split('_').includes(part)));
  const nearest = closest(upper, alike.length > 0 ? alike : codes);
  throw new EpsilonflowError('ARGUMENT_INVALID', `There is no error code ${asked}.`, {
    hint: `Did you mean ${nearest}? \`epsilonflow explain\` lists all.`,
  });
}
