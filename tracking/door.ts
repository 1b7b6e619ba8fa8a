/**
 * @file The one door through which a run's values leave for tracker, report and terminal. What is non-private and
 * derives from a private dataset stays inside; a waiver of the spec, by name, is the only exception. Pure.
 *
 * Functions that send or write take `Passed` values, which only this file makes.
 */

import type { ErrorCode } from '../schemas/error-codes.ts';
import type { Label, Plan, PlanNode, Sensitivity } from '../schemas/plan.ts';

declare const passed: unique symbol;

/** A value that was let through the door. */
export type Passed<T> = T & { readonly [passed]: true };

export interface Origin {
  label: Label;
  /** Of the most sensitive dataset behind the value. */
  sensitivity: Sensitivity;
}

/** Whether a value may be seen outside: all but what is non-private of a private dataset. */
export const mayLeave = ({ label, sensitivity }: Origin): boolean =>
  label !== 'non-private' || sensitivity !== 'private';

/** Numbers that follow from the plan or the clock alone, whatever the records are. */
const dataIndependent = new Set([
  'seconds',
  'steps',
  'learningRate',
  'noiseMultiplier',
  'samplingProbability',
  'clipNorm',
  'epsilon',
  'delta',
  'parameters',
  'trainedParameters',
]);

/** What a charged release of test counts gives: post-processing of the noisy table. */
const releasedMetrics = new Set(['accuracy', 'accuracyLow', 'accuracyHigh', 'macroF1', 'majority', 'testRecords']);

export interface Progress {
  phase: string;
  done: number;
  total: number;
  unit: string;
}

/** Codes of errors whose messages say nothing but what spec, plan and machine say. */
const tellableCodes: ReadonlySet<string> = new Set<ErrorCode>([
  'DATA_FILE_MISSING',
  'DATA_COLUMN_MISSING',
  'DATA_CHANGED',
  'MODEL_MISSING',
  'MODEL_INVALID',
  'DISK_FULL',
  'STORE_READ_ONLY',
  'FENCED',
  'RECEIPT_INVALID',
  'MECHANISM_MISMATCH',
  'NOISE_KEY_LOST',
  'BUDGET_REFUSED',
  'INPUT_MISSING',
  'JOB_CRASHED',
]);

export interface Door {
  /** The metrics of a node that may leave; others are dropped. */
  metrics(metrics: Record<string, number>): Passed<Record<string, number>>;
  /** Whether a per-step curve of that name may leave. */
  curve(name: string): boolean;
  /** How far the node is. Where records are private only planned steps are counted: not records, not microbatches. */
  progress(progress: Progress): Passed<Progress>;
  /** Content of the node's artifact, such as rows; null when it must stay. */
  content<T extends object>(content: T): Passed<T> | null;
  /** Why the node failed. A message of a node that touches private data leaves only if its code can't quote a record. */
  failure(failure: { code: string; message: string }): Passed<{ code: string; message: string }>;
}

/** Whether the node itself reads a private dataset. */
export const readsPrivate = (plan: Pick<Plan, 'datasets'>, node: PlanNode): boolean =>
  Object.values(node.inputs).some(
    (input) => 'dataset' in input && plan.datasets[input.dataset]?.sensitivity === 'private',
  );

/** The door of one node. Labels and waivers come from the plan alone, never from what a step says of itself. */
export function doorOf(plan: Pick<Plan, 'datasets'>, node: PlanNode): Door {
  const open = mayLeave(node);
  // A DP mechanism protects the artifact it makes, not the training loss or the counts of records on the way there.
  const metricsLeave = open && !readsPrivate(plan, node);
  const released = open && node.release !== undefined;
  const waived = (node.kind === 'train-classifier' || node.kind === 'compare') && node.waivers.includes('test-metrics');
  const allows = (name: string): boolean =>
    metricsLeave || waived || dataIndependent.has(name) || (released && releasedMetrics.has(name));
  return {
    metrics: (metrics) => pass(Object.fromEntries(Object.entries(metrics).filter(([name]) => allows(name)))),
    // The waiver names metrics on the test split; a training curve is not among them.
    curve: (name) => metricsLeave || dataIndependent.has(name),
    progress: ({ phase, done, total, unit }) => {
      if (metricsLeave) return pass({ phase, done, total, unit });
      return pass(
        unit === 'steps' ? { phase, done: Math.floor(done), total, unit } : { phase, done: 0, total: 0, unit },
      );
    },
    content: (content) => (open || (waived && node.kind === 'compare') ? pass(content) : null),
    failure: ({ code, message }) =>
      pass({
        code,
        message:
          node.sensitivity === 'private' && !tellableCodes.has(code)
            ? 'Its message stays in the local log: the step works on private data.'
            : message,
      }),
  };
}

const pass = <T extends object>(value: T): Passed<T> => value as Passed<T>;
