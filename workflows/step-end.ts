/** @file What became of a step, in the words of reports. */

import { isCancellation } from '@temporalio/workflow';
import type { StepEnd, StepOutcome } from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { describeFailure } from './failures.ts';

/** @param error what the step threw; absent when it completed */
export const endOf = (node: string, error?: unknown): StepEnd => {
  if (error === undefined) return { end: 'completed', node };
  if (isCancellation(error)) return { end: 'cancelled', node };
  return { end: 'failed', ...describeFailure(node, error) };
};

/** Waits for a step; never rejects. */
export const settled = (node: string, outcome: Promise<StepOutcome>): Promise<StepEnd> =>
  outcome.then(
    () => endOf(node),
    (error: unknown) => endOf(node, error ?? new Error('Unknown failure')),
  );

/** Steps end in any order: of two rows of the ledger the later one. */
export const laterHead = (one: KnownHead | null, other: KnownHead | null): KnownHead | null =>
  one && other && one.ledger === other.ledger && one.sequence > other.sequence ? one : (other ?? one);
