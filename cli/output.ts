/** @file How commands print: for people, as JSON for scripts, and every error with its place, code and hint. */

import { relative } from 'node:path';

import type { Command } from 'commander';

import type { ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError, type Position, SpecFaults } from '../schemas/errors.ts';
import { systemError } from '../schemas/system-errors.ts';

/** Exit codes that scripts may rely on; `docs/operations.md` lists them. */
export const exitCodes = {
  fine: 0,
  failed: 1,
  wrong: 2,
  budget: 3,
  unreachable: 4,
  cancelled: 5,
  waiting: 6,
} as const;

const styles = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;
type Style = keyof typeof styles;

/** Styles text, or leaves it as it is. */
export type Paint = (style: Style, text: string) => string;

/** Whether a stream shows colours: a terminal, unless NO_COLOR is set (https://no-color.org). */
function hasColour(stream: NodeJS.WriteStream): boolean {
  if (process.env['NO_COLOR']) return false;
  if (process.env['FORCE_COLOR'] && process.env['FORCE_COLOR'] !== '0') return true;
  return stream.isTTY === true && process.env['TERM'] !== 'dumb';
}

/** Styles text for a stream; plain text where the stream is no terminal. */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  if (!hasColour(stream)) return text;
  const [open, close] = styles[style];
  return `\u001b[${open}m${text}\u001b[${close}m`;
}

/** Prints one line for people. */
export function printLine(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Prints the one JSON value that a command gives under `--json`. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** One fault in the form of `validate --json`. */
export interface ErrorRecord {
  code: ErrorCode | 'INTERNAL';
  file: string | null;
  line: number | null;
  column: number | null;
  message: string;
  hint: string | null;
}

/** The faults behind a thrown value, most often one. */
export function errorRecords(error: unknown): ErrorRecord[] {
  if (error instanceof SpecFaults) return error.faults.flatMap(errorRecords);
  if (error instanceof EpsilonflowError) {
    const { position } = error;
    return [
      {
        code: error.code,
        file: position?.file ?? null,
        line: position?.line ?? null,
        column: position?.column ?? null,
        message: error.message,
        hint: error.hint ?? null,
      },
    ];
  }
  const message = error instanceof Error ? error.message : String(error);
  return [{ code: 'INTERNAL', file: null, line: null, column: null, message, hint: null }];
}

/** The exit code that a thrown value ends a command with. Of several faults the first decides. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof SpecFaults) return error.faults[0]?.exitCode ?? exitCodes.wrong;
  return error instanceof EpsilonflowError ? error.exitCode : exitCodes.failed;
}

/** A path as short as it gets from the working directory, so that terminals can open `file:line:column`. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short === '' || short.startsWith('..') ? path : short;
}

export const formatPosition = ({ file, line, column }: Position): string => `${shortPath(file)}:${line}:${column}`;

/** Prints a thrown value on stderr for people: place, code, message, hint. */
export function printError(error: unknown): void {
  const paint = (style: Style, text: string): string => styled(style, text, process.stderr);
  for (const { code, file, line, column, message, hint } of errorRecords(error)) {
    const place =
      file === null ? '' : `${paint('bold', formatPosition({ file, line: line ?? 1, column: column ?? 1 }))} `;
    process.stderr.write(`${place}${paint('red', `error ${code}`)}: ${message}\n`);
    if (hint !== null) process.stderr.write(`  ${paint('cyan', 'hint')}: ${hint}\n`);
  }
  if (error instanceof SpecFaults && error.faults.length > 1) process.stderr.write(`${error.message}\n`);
  // A failure that is no user's fault needs its trace to be reported.
  const known = error instanceof EpsilonflowError || error instanceof SpecFaults;
  if (!known && error instanceof Error && error.stack) process.stderr.write(`${paint('dim', error.stack)}\n`);
}

/** Prints a thrown value and sets the exit code. With `json` it is `{"errors": [...]}` on stdout. */
export function reportError(thrown: unknown, json: boolean): void {
  const error = systemError(thrown);
  if (json) printJson({ errors: errorRecords(error) });
  else printError(error);
  process.exitCode = exitCodeOf(error);
}

/**
 * Wraps a command's work as commander's action: the handler gets the parsed arguments and options and returns an exit
 * code (0 when none); what it throws is printed and turned into the exit code of the design.
 *
 * @example program.command('status').argument('[run]').option('--json', ...).action(action(async (run, options) => 0))
 */
export function action<A extends unknown[]>(
  handler: (...args: A) => Promise<number | void>,
): (...args: [...A, Command]) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as Command;
    const json = command.optsWithGlobals<{ json?: boolean }>().json === true;
    try {
      const code = await handler(...(args.slice(0, -1) as unknown as A));
      if (code !== undefined) process.exitCode = code;
    } catch (error) {
      reportError(error, json);
    }
  };
}

/** Lays rows out in columns, two spaces apart; the last column is not padded. Colour codes count no width. */
export function formatTable(header: string[], rows: string[][]): string {
  const width = (cell: string): number => cell.replaceAll(/\u001b\[\d+m/g, '').length;
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => width(row[column] ?? ''))));
  const line = (cells: string[]): string =>
    cells
      .map((cell, column) => (column === cells.length - 1 ? cell : cell + ' '.repeat(widths[column]! - width(cell))))
      .join('  ')
      .trimEnd();
  return [styled('dim', line(header)), ...rows.map(line)].join('\n');
}

/** What `--help` says of exit codes. */
export const exitCodeHelp = `
Exit codes: 0 fine, 1 the run or an instance failed, 2 spec or arguments wrong, 3 the budget refuses,
4 a service can't be reached, 5 cancelled, 6 waiting for approval.`;
