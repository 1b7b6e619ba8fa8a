/** @file Failures in workflow code: from the project's codes to Temporal's classes and back. */

import { ActivityFailure, ApplicationFailure, ChildWorkflowFailure } from '@temporalio/workflow';
import type { ErrorCode } from '../schemas/error-codes.ts';
import type { NodeFailure } from '../activities/contract.ts';

export function workflowFailure(code: ErrorCode, message: string, hint?: string): ApplicationFailure {
  return ApplicationFailure.create({ type: code, message, nonRetryable: true, details: [{ hint: hint ?? null }] });
}

/** Finds the failure that an activity or child workflow reported, below Temporal's wrapping. */
export function describeFailure(node: string, error: unknown): NodeFailure {
  let cause = error;
  while ((cause instanceof ActivityFailure || cause instanceof ChildWorkflowFailure) && cause.cause)
    cause = cause.cause;
  if (cause instanceof ApplicationFailure) {
    const details = cause.details?.[0] as { hint?: string | null } | undefined;
    return { node, code: cause.type ?? 'STEP_FAILED', message: cause.message, hint: details?.hint ?? null };
  }
  const message = cause instanceof Error ? cause.message : 'Unknown failure';
  return { node, code: 'JOB_CRASHED', message: `The step gave no result in time: ${message}`, hint: null };
}
