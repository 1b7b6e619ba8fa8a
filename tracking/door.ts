/**
 * @file The one door through which a run's values leave for tracker, report and terminal. What is non-private and
 * derives from a private dataset stays inside; a waiver of the spec, by name, is the only exception. Pure.
 *
 * Functions that send or write take `Passed` values, which only this file makes.
 */

import { errorCodes, type ErrorCode } from '../schemas/error-codes.ts';
import type { Label, Plan, PlanNode, Sensitivity, StepKind } from '../schemas/plan.ts';
import { lineageOf } from '../schemas/lineage.ts';
import type { RunEvent } from './events.ts';

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
]);

/**
 * They follow from the plan but for the vocabulary, which is that of a corpus: where a node is shut the corpus may lack
 * what private records hold.
 */
const modelSizes = new Set(['parameters', 'trainedParameters']);

/** What a charged release of test counts gives: post-processing of the noisy table. */
const releasedMetrics = new Set(['accuracy', 'accuracyLow', 'accuracyHigh', 'macroF1', 'majority', 'testRecords']);

export interface Progress {
  phase: string;
  done: number;
  total: number;
  unit: string;
}

/** The waiver under which exact figures of a kind leave. */
const waiverOfKind: Partial<Record<StepKind, string>> = {
  'train-classifier': 'test-metrics',
  compare: 'test-metrics',
  measure: 'measures',
  audit: 'measures',
  decontaminate: 'decontamination',
};

/** Kinds whose figures lie in their artifact too. What else lies there is not shown to the door. */
const summaries: ReadonlySet<StepKind> = new Set<StepKind>(['compare', 'measure', 'audit', 'decontaminate']);

/** Codes of errors whose messages say nothing but what spec, plan and machine say. */
const tellableCodes: ReadonlySet<string> = new Set<ErrorCode>([
  'SPEC_FILE_MISSING',
  'SPEC_SYNTAX',
  'SPEC_SCHEMA',
  'SPEC_UNKNOWN_KEY',
  'SPEC_DUPLICATE_KEY',
  'SPEC_MISSING_KEY',
  'SPEC_EXPRESSION',
  'SPEC_UNKNOWN_REFERENCE',
  'SPEC_REFERENCE_KIND',
  'SPEC_CYCLE',
  'SPEC_UNUSED_AXIS',
  'SPEC_MATRIX',
  'SPEC_COMPARE',
  'SPEC_PRIVACY',
  'DATA_FILE_MISSING',
  'DATA_COLUMN_MISSING',
  'DATA_CHANGED',
  'MODEL_MISSING',
  'MODEL_INVALID',
  'MODEL_UNFIT',
  'FENCED',
  'RECEIPT_INVALID',
  'MECHANISM_MISMATCH',
  'NOISE_KEY_LOST',
  'BUDGET_REFUSED',
  'SPENDING_UNCONFIRMED',
  'DATASET_UNREGISTERED',
  'LEDGER_CORRUPT',
  'LEDGER_MISMATCH',
  'LEDGER_ROLLED_BACK',
  'LEDGER_TOO_NEW',
  'INPUT_MISSING',
  'PLAN_MISSING',
  'PLAN_ALTERED',
  'STORE_REFUSED',
  'SERVICE_UNREACHABLE',
  'JOB_CRASHED',
  'OUT_OF_MEMORY',
]);

/** Of those, codes whose messages may give sizes of a model, such as of its vocabulary: see `modelSizes`. */
const modelCodes: ReadonlySet<string> = new Set<ErrorCode>(['MODEL_INVALID', 'MODEL_UNFIT']);

/** Codes whose messages name a path of the host, or figures: in their place the registry's summary leaves. */
const restatedCodes: ReadonlySet<string> = new Set<ErrorCode>(['DISK_FULL', 'STORE_READ_ONLY', 'AUDIT_EXCEEDED']);

/** Why something failed. */
export interface Failure {
  /** Of the registry; the class of another error. */
  code: string;
  message: string;
  /** The project's own advice: other errors have none. */
  hint?: string | null;
}

export interface Door {
  /** The metrics of a node that may leave; others are dropped. */
  metrics(metrics: Record<string, number>): Passed<Record<string, number>>;
  /** Whether a per-step curve of that name may leave. */
  curve(name: string): boolean;
  /** How far the node is. Where records are private only planned steps are counted: not records, not microbatches. */
  progress(progress: Progress): Passed<Progress>;
  /** Content of the node's artifact, such as rows; null when it must stay. */
  content<T extends object>(content: T): Passed<T> | null;
  /** What a step says of its result, for the manifest; the private store, where non-private results lie, takes it all. */
  figures(figures: Figures): Passed<Figures>;
  /** Why the node failed: see `failureDoor`. */
  failure(failure: Failure): Passed<Failure>;
}

interface Figures {
  metrics: Record<string, number>;
  summary: Record<string, unknown>;
}

/** What is said in place of a message that must stay. */
const withheld = 'Its message stays in the local log: the step works on private data.';

const isWithheld = (message: string): boolean =>
  message.endsWith(withheld) && /^It failed with \w{1,60}\. $/.test(message.slice(0, -withheld.length));

/**
 * The door of failures alone. Where private data are worked on, message and hint leave only if the code's messages can't
 * quote a record; of other failures only code or class leave.
 *
 * @param isShut whether the result of the node must stay inside
 */
export const failureDoor =
  ({ isPrivate, isShut }: { isPrivate: boolean; isShut: boolean }): Door['failure'] =>
  ({ code, message, hint = null }) => {
    const isTellable = tellableCodes.has(code) && !(isShut && modelCodes.has(code));
    if (!isPrivate || isTellable || isWithheld(message)) return pass({ code, message, hint });
    if (restatedCodes.has(code)) return pass({ code, message: errorCodes[code as ErrorCode].summary, hint });
    const named = Object.hasOwn(errorCodes, code) || /^[A-Za-z]{0,40}Error$/.test(code) ? code : 'Error';
    return pass({ code: named, message: `It failed with ${named}. ${withheld}`, hint: null });
  };

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
  const waiver = waiverOfKind[node.kind];
  const waived = waiver !== undefined && node.waivers.includes(waiver);
  // The figures of a comparison have names of the spec's own, those of its arms.
  const isIndependent = (name: string): boolean => dataIndependent.has(name) && node.kind !== 'compare';
  const allows = (name: string): boolean =>
    metricsLeave ||
    waived ||
    isIndependent(name) ||
    (open && modelSizes.has(name)) ||
    (released && releasedMetrics.has(name));
  return {
    metrics: (metrics) => pass(Object.fromEntries(Object.entries(metrics).filter(([name]) => allows(name)))),
    // A waiver names figures that a step ends with; a training curve is not among them.
    curve: (name) => metricsLeave || dataIndependent.has(name),
    progress: ({ phase, done, total, unit }) => {
      if (metricsLeave) return pass({ phase, done, total, unit });
      return pass(
        unit === 'steps' ? { phase, done: Math.floor(done), total, unit } : { phase, done: 0, total: 0, unit },
      );
    },
    content: (content) => (open || (waived && summaries.has(node.kind)) ? pass(content) : null),
    figures: ({ metrics, summary }) => {
      if (metricsLeave || node.label === 'non-private') return pass({ metrics, summary });
      return pass({
        metrics: Object.fromEntries(Object.entries(metrics).filter(([name]) => allows(name))),
        summary: {},
      });
    },
    failure: failureDoor({ isPrivate: node.sensitivity === 'private', isShut: !open }),
  };
}

/** What may stand in the run's log: metrics, points of curves and reasons of failures that must stay are left out. */
export function passEvents(plan: Pick<Plan, 'datasets' | 'nodes'>, events: readonly RunEvent[]): Passed<RunEvent>[] {
  const { node: find } = lineageOf(plan);
  return events.flatMap((event): Passed<RunEvent>[] => {
    if (!('node' in event)) return [pass(event)];
    const node = find(event.node);
    if (!node) return [];
    const door = doorOf(plan, node);
    switch (event.type) {
      case 'metric':
        return door.curve(event.name) ? [pass(event)] : [];
      case 'node-completed':
        return [pass({ ...event, metrics: door.metrics(event.metrics) })];
      case 'checkpoint-unsent':
        return [pass({ ...event, code: door.failure({ code: event.code, message: '' }).code })];
      case 'node-failed': {
        const { code, message } = door.failure(event);
        return [pass({ ...event, code, message })];
      }
      default:
        return [pass(event)];
    }
  });
}

const pass = <T extends object>(value: T): Passed<T> => value as Passed<T>;
