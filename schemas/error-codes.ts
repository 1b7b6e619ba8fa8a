/**
 * @file Registry of error codes. A code is stable: scripts may rely on it.
 *
 * `exit` is the exit code of the command line: 1 the run or an instance failed, 2 spec or arguments wrong,
 * 3 the budget refuses, 4 a service can't be reached, 5 cancelled, 6 waiting for approval.
 */

interface ErrorCodeInfo {
  exit: 1 | 2 | 3 | 4 | 5 | 6;
  retryable: boolean;
  /** One sentence: when it is thrown. */
  summary: string;
}

const define = <const T extends Record<string, ErrorCodeInfo>>(codes: T): T => codes;

export const errorCodes = define({
  // Spec and arguments
  SPEC_FILE_MISSING: { exit: 2, retryable: false, summary: 'The spec file does not exist or cannot be read.' },
  SPEC_SYNTAX: { exit: 2, retryable: false, summary: 'The spec is not valid YAML.' },
  SPEC_SCHEMA: { exit: 2, retryable: false, summary: 'A value of the spec has the wrong type or is out of range.' },
  SPEC_UNKNOWN_KEY: { exit: 2, retryable: false, summary: 'The spec holds a key that the schema does not know.' },
  SPEC_DUPLICATE_KEY: { exit: 2, retryable: false, summary: 'A mapping of the spec holds the same key twice.' },
  SPEC_MISSING_KEY: { exit: 2, retryable: false, summary: 'A mapping of the spec lacks a key that it needs.' },
  SPEC_EXPRESSION: {
    exit: 2,
    retryable: false,
    summary: 'An expression ${{ ... }} is malformed or stands where none may.',
  },
  SPEC_UNKNOWN_REFERENCE: {
    exit: 2,
    retryable: false,
    summary: 'The spec names a step, dataset, model, axis, axis value or profile that does not exist.',
  },
  SPEC_REFERENCE_KIND: { exit: 2, retryable: false, summary: 'A step is given an input of a kind that it cannot use.' },
  SPEC_CYCLE: { exit: 2, retryable: false, summary: 'Steps of the spec depend on each other in a circle.' },
  SPEC_UNUSED_AXIS: { exit: 2, retryable: false, summary: 'An axis of the matrix, or of `over`, is used by nothing.' },
  SPEC_MATRIX: {
    exit: 2,
    retryable: false,
    summary: 'The matrix leaves no combination, too many, or one that a step needs is excluded.',
  },
  SPEC_COMPARE: {
    exit: 2,
    retryable: false,
    summary: 'A comparison sets things against each other that do not compare.',
  },
  SPEC_PRIVACY: {
    exit: 2,
    retryable: false,
    summary: 'The spec asks for a use of data that their sensitivity forbids, or lacks what privacy needs.',
  },
  MODEL_MISSING: { exit: 2, retryable: false, summary: 'A model folder does not exist or lacks a file.' },
  ARGUMENT_INVALID: { exit: 2, retryable: false, summary: 'A command-line argument is wrong.' },
  RUN_UNKNOWN: { exit: 2, retryable: false, summary: 'No run of that name and number is known here.' },
  INSTANCE_UNKNOWN: { exit: 2, retryable: false, summary: 'The run holds no instance of that id.' },
  // Data
  DATA_FILE_MISSING: { exit: 2, retryable: false, summary: 'A data file does not exist.' },
  DATA_COLUMN_MISSING: { exit: 2, retryable: false, summary: 'A data file lacks a column that the spec names.' },
  DATA_ENCODING: { exit: 2, retryable: false, summary: 'A data file is not valid UTF-8.' },
  DATA_EMPTY: { exit: 2, retryable: false, summary: 'A dataset holds no usable record.' },
  DATA_ONE_CLASS: { exit: 2, retryable: false, summary: 'A labelled dataset holds records of one class only.' },
  DATA_UNREADABLE: { exit: 2, retryable: false, summary: 'A data file is not in the format that the spec names.' },
  DATA_RECORD_INVALID: { exit: 2, retryable: false, summary: 'A record has no text or a label that the spec lacks.' },
  DATA_CHANGED: { exit: 2, retryable: false, summary: 'A dataset is no longer the one that the plan was made for.' },
  // Privacy
  BUDGET_REFUSED: { exit: 3, retryable: false, summary: 'A reservation would exceed the budget of a dataset.' },
  DATASET_OVERLAP: {
    exit: 3,
    retryable: false,
    summary: 'A private dataset shares records with another account, and nobody has acknowledged it.',
  },
  DATASET_UNREGISTERED: {
    exit: 3,
    retryable: false,
    summary: 'Spending was asked for on private data that the ledger does not know.',
  },
  LEDGER_MISMATCH: {
    exit: 3,
    retryable: false,
    summary: 'The privacy ledger is missing, or is not the one that the project names.',
  },
  LEDGER_ROLLED_BACK: {
    exit: 3,
    retryable: false,
    summary: 'The privacy ledger lacks spending that was recorded in it before.',
  },
  MECHANISM_MISMATCH: {
    exit: 1,
    retryable: false,
    summary: 'A checkpoint or proof differs from the reserved mechanism.',
  },
  RECEIPT_INVALID: { exit: 1, retryable: false, summary: 'A private step was started without a valid ledger receipt.' },
  LEDGER_CORRUPT: {
    exit: 1,
    retryable: false,
    summary: 'The privacy ledger was changed, cut or exchanged behind its back.',
  },
  LEDGER_TOO_NEW: { exit: 1, retryable: false, summary: 'The privacy ledger was made by a newer version.' },
  // An attempt that woke late may have fenced the present one: what Temporal tries again is the present one only.
  FENCED: { exit: 1, retryable: true, summary: 'A newer attempt has taken over this step.' },
  RELEASE_REFUSED: {
    exit: 3,
    retryable: false,
    summary: 'Something not labelled dp or public was asked to be released.',
  },
  BUNDLE_INVALID: {
    exit: 2,
    retryable: false,
    summary: 'A folder of evidence lacks a file, holds another, or one was changed.',
  },
  // Running
  STEP_FAILED: { exit: 1, retryable: false, summary: 'A step failed in a way that a retry would repeat.' },
  COMPILE_REFUSED: {
    exit: 1,
    retryable: false,
    summary: 'A function of tensors cannot be compiled: it is not pure or uses an unknown op.',
  },
  COMPILED_INPUT_INVALID: {
    exit: 1,
    retryable: false,
    summary: 'A compiled function was called with inputs of other names, or after it was disposed.',
  },
  MODEL_INVALID: {
    exit: 2,
    retryable: false,
    summary: 'A model folder or weight file is missing, damaged or of another architecture.',
  },
  MODEL_UNFIT: {
    exit: 2,
    retryable: false,
    summary: 'A model takes more memory than its step may, or has fewer positions than its step asks for.',
  },
  WORKER_DIED: { exit: 1, retryable: true, summary: 'The worker of an attempt died; the step goes on elsewhere.' },
  WORKER_STOPPED: {
    exit: 1,
    retryable: true,
    summary: 'The worker of an attempt was stopped; the step goes on later.',
  },
  JOB_CRASHED: { exit: 1, retryable: true, summary: 'The process of a step ended unexpectedly.' },
  DISK_FULL: { exit: 1, retryable: true, summary: 'No space is left on the disk.' },
  STORE_READ_ONLY: { exit: 1, retryable: false, summary: 'The state folder cannot be written to.' },
  PLAN_MISSING: { exit: 1, retryable: false, summary: 'A plan that a run refers to is not in the state folder.' },
  NOISE_KEY_LOST: { exit: 1, retryable: false, summary: 'The noise key of a private step is gone or damaged.' },
  INPUT_MISSING: { exit: 1, retryable: false, summary: 'A result that a step reads is not in the store, or damaged.' },
  CANCELLED: { exit: 5, retryable: false, summary: 'The run was cancelled.' },
  // Services and set-up
  SERVICE_UNREACHABLE: { exit: 4, retryable: true, summary: 'Temporal, MLflow or another service cannot be reached.' },
  SETUP_INCOMPLETE: { exit: 4, retryable: false, summary: 'A part that set-up installs is missing or broken.' },
});

export type ErrorCode = keyof typeof errorCodes;
