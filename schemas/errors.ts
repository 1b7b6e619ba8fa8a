/** @file The one error type of the project and how it maps to exit codes. Knows no other layer. */

import { errorCodes, type ErrorCode } from './error-codes.ts';

export interface ErrorDetails {
  /** What to do about it, as a sentence. */
  hint?: string;
  /** Where in a file of the user's: `file:line:column`. */
  position?: Position;
  cause?: unknown;
}

/** A place in a text file; line and column count from 1. */
export interface Position {
  file: string;
  line: number;
  column: number;
}

/** Thrown for every failure that a user can understand or act upon. Its message never holds private text. */
export class EpsilonflowError extends Error {
  override readonly name = 'EpsilonflowError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly position: Position | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint;
    this.position = details.position;
  }

  /** Exit code of the command line when this error ends it. */
  get exitCode(): number {
    return errorCodes[this.code].exit;
  }

  /** Whether running the same thing again may succeed with no change by the user. */
  get retryable(): boolean {
    return errorCodes[this.code].retryable;
  }
}

/** Several faults of one spec, reported at once. */
export class SpecFaults extends Error {
  override readonly name = 'SpecFaults';
  readonly faults: readonly EpsilonflowError[];

  constructor(faults: readonly EpsilonflowError[]) {
    super(`${faults.length} fault${faults.length === 1 ? '' : 's'} in the spec`);
    this.faults = faults;
  }
}
