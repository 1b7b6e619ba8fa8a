/** @file Connections of commands to Temporal, and how its answers become the project's errors. */

import { Client, WorkflowFailedError, WorkflowNotFoundError } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure, TerminatedFailure } from '@temporalio/common';
import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { TemporalService } from '../stack/services.ts';
import { openConnection } from '../stack/temporal-connection.ts';

export async function connectTemporal({ address, namespace }: TemporalService): Promise<Client> {
  try {
    return new Client({ connection: await openConnection(address), namespace });
  } catch (cause) {
    throw new EpsilonflowError('SERVICE_UNREACHABLE', `Temporal cannot be reached at ${address}.`, {
      hint: 'Start the local services with `epsilonflow up`, or correct the TEMPORAL_* settings.',
      cause,
    });
  }
}

export type WorkflowState = 'running' | 'ended' | 'unknown';

/** Whether Temporal knows a run's workflow and whether it goes on. */
export async function workflowState(client: Client, workflowId: string): Promise<WorkflowState> {
  try {
    const { status } = await client.workflow.getHandle(workflowId).describe();
    return status.name === 'RUNNING' ? 'running' : 'ended';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'unknown';
    throw error;
  }
}

/** What a run's workflow ended with, in the project's own terms; other errors as they are. */
export function runError(error: unknown): unknown {
  if (!(error instanceof WorkflowFailedError)) return error;
  let cause = error.cause;
  if (cause instanceof CancelledFailure) return new EpsilonflowError('CANCELLED', 'The run was cancelled.');
  if (cause instanceof TerminatedFailure) {
    return new EpsilonflowError('STEP_FAILED', 'The run was terminated in Temporal, by someone or by the server.', {
      hint: 'Its page in Temporal says why. Run the spec again: what has finished is reused.',
    });
  }
  while (cause && !(cause instanceof ApplicationFailure)) cause = cause.cause as Error | undefined;
  if (!(cause instanceof ApplicationFailure)) return error;
  const details = cause.details?.[0] as { hint?: string | null } | undefined;
  return new EpsilonflowError(isErrorCode(cause.type) ? cause.type : 'STEP_FAILED', cause.message, {
    ...(details?.hint ? { hint: details.hint } : {}),
    cause: error,
  });
}

const isErrorCode = (code: string | null | undefined): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(errorCodes, code);
