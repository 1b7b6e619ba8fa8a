import { WorkflowFailedError } from '@temporalio/client';
import { CancelledFailure, TerminatedFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { exitCodeOf } from '../../cli/output.ts';
import { failureLines } from '../../cli/run-outcome.ts';
import { runError } from '../../cli/temporal-client.ts';
import type { RunEvent } from '../../tracking/events.ts';
import { summariseRun } from '../../tracking/run-summary.ts';
import { madeUpPlan } from '../orchestration/cheap-experiment.ts';

/** Lines of a run in which these instances failed. */
function linesOf(failed: readonly [node: string, code: string][]): string[] {
  const plan = madeUpPlan(
    'fails',
    failed.map(([id]) => ({ id })),
  );
  const events = failed.map(([node, code], time): RunEvent => ({
    type: 'node-failed',
    time,
    node,
    code,
    message: 'as told',
  }));
  return failureLines(plan, summariseRun(events));
}

describe('failures of a run', () => {
  it('stand once where step and code are alike, with their count', () => {
    const seeds = Array.from({ length: 500 }, (_, seed): [string, string] => [`generator[seed=${seed}]`, 'DISK_FULL']);
    expect(linesOf([...seeds, ['generator[seed=x]', 'OUT_OF_MEMORY'], ['synthetic', 'DISK_FULL']])).toEqual([
      'failed generator[seed=0]: DISK_FULL: as told (and 499 more of generator with DISK_FULL)',
      'failed generator[seed=x]: OUT_OF_MEMORY: as told',
      'failed synthetic: DISK_FULL: as told',
    ]);
  });

  it('are shown up to ten, the rest as a count', () => {
    const steps = Array.from({ length: 30 }, (_, place): [string, string] => [`step-${place}`, 'DISK_FULL']);
    const lines = linesOf(steps);
    expect(lines).toHaveLength(11);
    expect(lines.at(-1)).toBe('and 20 more failures: --json lists all');
  });
});

describe('the exit code of a run', () => {
  const ended = (cause: Error): unknown =>
    runError(new WorkflowFailedError('ended', cause, 'NON_RETRYABLE_FAILURE' as never));

  it('is that of a failure when the server or a person terminated it, and 5 when it was cancelled', () => {
    expect(exitCodeOf(ended(new TerminatedFailure('history too long')))).toBe(1);
    expect(exitCodeOf(ended(new CancelledFailure('asked to')))).toBe(5);
  });
});
