/** @file Maps the project's error to what crosses a process boundary and, once, to Temporal's `ApplicationFailure`. */

import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { systemError } from '../schemas/system-errors.ts';
import type { Door } from '../tracking/door.ts';
import type { JobFault } from './job-messages.ts';

export function faultOf(error: unknown): JobFault {
  if (error instanceof EpsilonflowError) {
    return { code: error.code, message: error.message, errorClass: error.name, hint: error.hint ?? null };
  }
  if (error instanceof Error) return { code: null, message: error.message, errorClass: error.name, hint: null };
  return { code: null, message: String(error), errorClass: typeof error, hint: null };
}

export function errorOf(fault: JobFault): Error {
  const hint = fault.hint === null ? {} : { hint: fault.hint };
  if (fault.code) return new EpsilonflowError(fault.code, fault.message, hint);
  const error = new Error(fault.message);
  error.name = fault.errorClass;
  return error;
}

/** The error of a step, as far as it may leave: see `Door.failure`. */
export function stepError(
  { code, message, errorClass, hint }: JobFault,
  door: Door,
  logFile: string,
): EpsilonflowError {
  const told = door.failure({ code: code ?? 'STEP_FAILED', message });
  const whole = `The whole error is in ${logFile}, on the worker's host.`;
  if (told.message !== message) {
    const named = /^\w{1,60}$/.test(errorClass) ? errorClass : 'Error';
    return new EpsilonflowError(told.code as ErrorCode, `It failed with ${code ?? named}. ${told.message}`, {
      hint: whole,
    });
  }
  if (code) return new EpsilonflowError(code, message, { hint: hint ?? whole });
  return new EpsilonflowError('STEP_FAILED', `The step failed: ${message}`, { hint: whole });
}

/** Type is the code; details carry the hint. Foreign errors are tried again: they come from disks, databases, networks. */
export function toApplicationFailure(error: unknown): Error {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error;
  const { code, message, hint, errorClass } = faultOf(systemError(error));
  return ApplicationFailure.create({
    type: code ?? errorClass,
    // Parsers quote what they could not read.
    message: error instanceof SyntaxError ? 'A file of the store or of a run holds no valid JSON.' : message,
    nonRetryable: code !== null && !errorCodes[code].retryable,
    details: [{ hint }],
  });
}

/** Wraps every activity of a set so that what it throws is mapped. */
export function withMappedErrors<T extends object>(activities: T): T {
  const wrapped = Object.entries(activities).map(
    ([name, activity]: [string, (...args: unknown[]) => Promise<unknown>]) => [
      name,
      async (...args: unknown[]): Promise<unknown> => {
        try {
          return await activity(...args);
        } catch (error) {
          throw toApplicationFailure(error);
        }
      },
    ],
  );
  return Object.fromEntries(wrapped) as T;
}
