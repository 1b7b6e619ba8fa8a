/**
 * @file The one door through which a run's values leave for tracker, report and terminal. What is non-private and
 * derives from a private dataset stays inside; a waiver of the spec, by name, is the only exception. Pure.
 *
 * Functions that send or write take `Passed` values, which only this file makes.
 */

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

export interface Door {
  /** The metrics of a node that may leave; others are dropped. */
  metrics(metrics: Record<string, number>): Passed<Record<string, number>>;
  /** Whether a per-step curve of that name may leave. */
  curve(name: string): boolean;
  /** Content of the node's artifact, such as rows; null when it must stay. */
  content<T extends object>(content: T): Passed<T> | null;
  /** Why the node failed. Of a node that touches private data only the code leaves: a message may quote what it read. */
  failure(failure: { code: string; message: string }): Passed<{ code: string; message: string }>;
}

/** The door of one node. Labels and waivers come from the plan alone, never from what a step says of itself. */
export function doorOf(plan: Pick<Plan, 'datasets'>, node: PlanNode): Door {
  const open = mayLeave(node);
  const readsPrivate = Object.values(node.inputs).some(
    (input) => 'dataset' in input && plan.datasets[input.dataset]?.sensitivity === 'private',
  );
  // A DP mechanism protects the artifact it makes, not the training loss on the way there.
  const metricsLeave = open && !(readsPrivate && node.privacy !== undefined);
  const waived = (node.kind === 'train-classifier' || node.kind === 'compare') && node.waivers.includes('test-metrics');
  const allows = (name: string): boolean => metricsLeave || waived || dataIndependent.has(name);
  return {
    metrics: (metrics) => pass(Object.fromEntries(Object.entries(metrics).filter(([name]) => allows(name)))),
    // The waiver names metrics on the test split; a training curve is not among them.
    curve: (name) => metricsLeave || dataIndependent.has(name),
    content: (content) => (open || (waived && node.kind === 'compare') ? pass(content) : null),
    failure: ({ code, message }) =>
      pass({
        code,
        message:
          node.sensitivity === 'private'
            ? 'Its message stays in the local log: the step works on private data.'
            : message,
      }),
  };
}

const pass = <T extends object>(value: T): Passed<T> => value as Passed<T>;
