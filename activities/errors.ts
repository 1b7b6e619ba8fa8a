/** @file Maps the project's error to what crosses a process boundary and, once, to Temporal's `ApplicationFailure`. */

import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { errorCodes } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import { systemError } from '../schemas/system-errors.ts';
import type { Door } from '../tracking/door.ts';
import type { JobFault } from './job-messages.ts';

export function faultOf(error: unknown): JobFault {
  if (error instanceof EpsilonflowError) {
    return { code: error.code, message: error.message, errorClass: error.name, hint: error.hint ?? null };
  }
  if (error instanceof Error) {
    // A class that is called like a code is not the project's error, and may say anything.
    const errorClass = Object.hasOwn(errorCodes, error.name) ? 'Error' : error.name;
    return { code: null, message: error.message, errorClass, hint: null };
  }
  return { code: null, message: String(error), errorClass: typeof error, hint: null };
}

export function errorOf(fault: JobFault): Error {
  const hint = fault.hint === null ? {} : { hint: fault.hint };
  if (fault.code) return new EpsilonflowError(fault.code, fault.message, hint);
  const error = new Error(fault.message);
  error.name = fault.errorClass;
  return error;
}

/** What the errors of an activity may say outside, and what becomes of the rest. */
export interface ErrorScope {
  failure: Door['failure'];
  /** Keeps a whole error where only operators look. Returns where, as a hint. */
  keep(error: unknown): Promise<string>;
}

/** Where a whole error is, for those who see less of it. */
export const wholeIn = (logFile: string): string => `The whole error is in ${logFile}, on the worker's host.`;

/** The error of a step's process, as far as it may leave: see `failureDoor`. The process has logged the whole. */
export function stepError(fault: JobFault, door: Pick<Door, 'failure'>, logFile: string): EpsilonflowError {
  const told = door.failure({ code: fault.code ?? fault.errorClass, message: fault.message, hint: fault.hint });
  const isForeign = fault.code === null && told.message === fault.message;
  return new EpsilonflowError(
    fault.code ?? 'STEP_FAILED',
    isForeign ? `The step failed: ${told.message}` : told.message,
    {
      hint: told.hint ?? wholeIn(logFile),
    },
  );
}

/**
 * What of an activity's error reaches Temporal. Type is the code, or the class of a foreign error; details carry the hint.
 * Foreign errors are tried again: they come from disks, databases, networks.
 */
export async function toApplicationFailure(error: unknown, { failure, keep }: ErrorScope): Promise<Error> {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error;
  const { code, message, hint, errorClass } = faultOf(systemError(error));
  const told = failure({ code: code ?? errorClass, message, hint });
  const isWhole = told.message === message;
  const kept = isWhole ? null : await keep(error);
  return ApplicationFailure.create({
    type: told.code,
    message: told.message,
    nonRetryable: code !== null && !errorCodes[code].retryable,
    details: [{ hint: told.hint ?? kept }],
  });
}

/** Wraps every activity of a set so that what it throws is mapped. */
export function withMappedErrors<T extends object>(
  activities: T,
  scopeOf: (activity: string, args: readonly unknown[]) => Promise<ErrorScope>,
): T {
  const wrapped = Object.entries(activities).map(
    ([name, activity]: [string, (...args: unknown[]) => Promise<unknown>]) => [
      name,
      async (...args: unknown[]): Promise<unknown> => {
        try {
          return await activity(...args);
        } catch (error) {
          throw await toApplicationFailure(error, await scopeOf(name, args));
        }
      },
    ],
  );
  return Object.fromEntries(wrapped) as T;
}
