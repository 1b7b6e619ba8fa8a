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
  /** What a user can do about it. */
  remedy: string;
}

const define = <const T extends Record<string, ErrorCodeInfo>>(codes: T): T => codes;

export const errorCodes = define({
  // Spec and arguments
  SPEC_FILE_MISSING: {
    exit: 2,
    retryable: false,
    summary: 'The spec file does not exist or cannot be read.',
    remedy: 'Check the path. It is relative to the folder that the command is run in.',
  },
  SPEC_SYNTAX: {
    exit: 2,
    retryable: false,
    summary: 'The spec is not valid YAML.',
    remedy:
      'Go to the line and column in the message. Frequent causes: tabs for indentation, a list item or key indented otherwise than its neighbours, a quote that is not closed, and an expression that begins a value: put ${{ ... }} in quotes inside flow mappings.',
  },
  SPEC_SCHEMA: {
    exit: 2,
    retryable: false,
    summary: 'A value of the spec has the wrong type or is out of range.',
    remedy:
      'Compare the value with docs/spec-reference.md: it lists type, range, default and unit of every key. Epsilon is a positive number or .inf.',
  },
  SPEC_UNKNOWN_KEY: {
    exit: 2,
    retryable: false,
    summary: 'The spec holds a key that the schema does not know.',
    remedy:
      'Look for a typing error; the message proposes the nearest known key. Keys that differ from step kind to step kind stand under `with`.',
  },
  SPEC_DUPLICATE_KEY: {
    exit: 2,
    retryable: false,
    summary: 'A mapping of the spec holds the same key twice.',
    remedy: 'Remove one of the two. Two steps need two names; several values of one axis are a list.',
  },
  SPEC_MISSING_KEY: {
    exit: 2,
    retryable: false,
    summary: 'A mapping of the spec lacks a key that it needs.',
    remedy: 'Add the key at the place that the message names; docs/spec-reference.md shows its form.',
  },
  SPEC_EXPRESSION: {
    exit: 2,
    retryable: false,
    summary: 'An expression ${{ ... }} is malformed or stands where none may.',
    remedy: 'Expressions are ${{ matrix.AXIS }}, ${{ steps.NAME }} and ${{ steps.NAME[axis=value] }}.',
  },
  SPEC_UNKNOWN_REFERENCE: {
    exit: 2,
    retryable: false,
    summary: 'The spec names a step, dataset, model, axis, axis value or profile that does not exist.',
    remedy:
      'Names are those under `steps`, `datasets`, `models`, `matrix` and `profiles` of the same spec; the message proposes the nearest one.',
  },
  SPEC_REFERENCE_KIND: {
    exit: 2,
    retryable: false,
    summary: 'A step is given an input of a kind that it cannot use.',
    remedy:
      'Give the step what its kind takes: decontaminate a corpus and datasets, finetune a model and data, generate a generator, train-classifier records, measure a synthetic set and a dataset, audit a synthetic set, compare classifiers.',
  },
  SPEC_CYCLE: {
    exit: 2,
    retryable: false,
    summary: 'Steps of the spec depend on each other in a circle.',
    remedy: 'Break the circle that the message shows. A step may only use steps that do not need it.',
  },
  SPEC_UNUSED_AXIS: {
    exit: 2,
    retryable: false,
    summary: 'An axis of the matrix, or of `over`, is used by nothing.',
    remedy: 'Use the axis in a step as ${{ matrix.AXIS }}, or remove it.',
  },
  SPEC_MATRIX: {
    exit: 2,
    retryable: false,
    summary: 'The matrix leaves no combination, too many, or one that a step needs is excluded.',
    remedy: 'Look at `include` and `exclude` of the matrix: they may leave nothing of what a step needs.',
  },
  SPEC_COMPARE: {
    exit: 2,
    retryable: false,
    summary: 'A comparison sets things against each other that do not compare.',
    remedy: 'Compare arms of equal epsilon and one test set, and gather only along axes that every arm has.',
  },
  SPEC_PRIVACY: {
    exit: 2,
    retryable: false,
    summary: 'The spec asks for a use of data that their sensitivity forbids, or lacks what privacy needs.',
    remedy: 'State `sensitivity` and `privacy` of the dataset, or a waiver by name with a reason: see docs/privacy.md.',
  },
  MODEL_MISSING: {
    exit: 2,
    retryable: false,
    summary: 'A model folder does not exist or lacks a file.',
    remedy: 'Check the path of the model, or name one of the Hugging Face Hub as hub: org/name@revision.',
  },
  ARGUMENT_INVALID: {
    exit: 2,
    retryable: false,
    summary: 'A command-line argument is wrong.',
    remedy: 'See the command with --help: it shows an example.',
  },
  RUN_UNKNOWN: {
    exit: 2,
    retryable: false,
    summary: 'No run of that name and number is known here.',
    remedy: '`epsilonflow status` lists the runs that are known in this folder.',
  },
  INSTANCE_UNKNOWN: {
    exit: 2,
    retryable: false,
    summary: 'The run holds no instance of that id.',
    remedy: '`epsilonflow status RUN` and `epsilonflow plan SPEC` list instances by their ids.',
  },
  // Data
  DATA_FILE_MISSING: {
    exit: 2,
    retryable: false,
    summary: 'A data file does not exist.',
    remedy: 'Check the path under `files`: it is relative to the spec.',
  },
  DATA_COLUMN_MISSING: {
    exit: 2,
    retryable: false,
    summary: 'A data file lacks a column that the spec names.',
    remedy: 'Name a column that the file has under `text` or `label`; the message lists them.',
  },
  DATA_ENCODING: {
    exit: 2,
    retryable: false,
    summary: 'A data file is not valid UTF-8.',
    remedy: 'Convert the file, for instance with iconv -f ISO-8859-1 -t UTF-8.',
  },
  DATA_EMPTY: {
    exit: 2,
    retryable: false,
    summary: 'A dataset holds no usable record.',
    remedy: 'Check the columns that the spec names, and that the file has rows with text.',
  },
  DATA_ONE_CLASS: {
    exit: 2,
    retryable: false,
    summary: 'A labelled dataset holds records of one class only.',
    remedy: 'A classifier needs at least two labels: check `label.column` and `label.values`.',
  },
  DATA_UNREADABLE: {
    exit: 2,
    retryable: false,
    summary: 'A data file is not in the format that the spec names.',
    remedy:
      'Check that the name of the file ends as its format does (.csv, .tsv, .jsonl, .parquet; .gz and .br are unpacked).',
  },
  DATA_RECORD_INVALID: {
    exit: 2,
    retryable: false,
    summary: 'A record has no text or a label that the spec lacks.',
    remedy:
      'Mend the record, or list its label under `label.values`. Records of private data are named by `validate --inspect` only.',
  },
  DATA_CHANGED: {
    exit: 2,
    retryable: false,
    summary: 'A dataset is no longer the one that the plan was made for.',
    remedy:
      'Run the spec again: it is planned for the data as they are now. Put the file back to go on with the old run.',
  },
  // Privacy
  BUDGET_REFUSED: {
    exit: 3,
    retryable: false,
    summary: 'A reservation would exceed the budget of a dataset.',
    remedy:
      '`epsilonflow plan SPEC` shows what each instance costs, and the smallest change that fits. A budget is changed with a reason: `epsilonflow ledger set-budget`.',
  },
  SPENDING_UNCONFIRMED: {
    exit: 3,
    retryable: false,
    summary: 'A command would charge privacy anew, and nobody has agreed to it.',
    remedy: 'Agree on a terminal when it asks, or give `--spend` in scripts. Nothing was started or charged.',
  },
  DATASET_OVERLAP: {
    exit: 3,
    retryable: false,
    summary: 'A private dataset shares records with another account, and nobody has acknowledged it.',
    remedy:
      'Use the dataset that the account was opened for, or decide with `epsilonflow ledger register` whose records they are.',
  },
  DATASET_UNREGISTERED: {
    exit: 3,
    retryable: false,
    summary: 'Spending was asked for on private data that the ledger does not know.',
    remedy: 'Start the run with `epsilonflow run`: it registers the data of its spec first.',
  },
  LEDGER_MISMATCH: {
    exit: 3,
    retryable: false,
    summary: 'The privacy ledger is missing, or is not the one that the project names.',
    remedy:
      'Put the ledger back that this project used, or set EPSILONFLOW_LEDGER_URL to it. If it is lost: `epsilonflow ledger acknowledge`, which records what can no longer be counted.',
  },
  LEDGER_ROLLED_BACK: {
    exit: 3,
    retryable: false,
    summary: 'The privacy ledger lacks spending that was recorded in it before.',
    remedy:
      'Put the newest copy back. If it is lost: `epsilonflow ledger acknowledge`, with author and reason; figures then say that spending is missing.',
  },
  MECHANISM_MISMATCH: {
    exit: 1,
    retryable: false,
    summary: 'A checkpoint or proof differs from the reserved mechanism.',
    remedy: 'The step ran, or would go on, otherwise than was paid for. Run the spec again: it starts a new entry.',
  },
  AUDIT_EXCEEDED: {
    exit: 1,
    retryable: false,
    summary: 'Canaries show that training costs more epsilon than it claims.',
    remedy:
      'Release nothing that was trained by this code: training does not keep its guarantee. Please report it, with the spec and the version.',
  },
  RECEIPT_INVALID: {
    exit: 1,
    retryable: false,
    summary: 'A private step was started without a valid ledger receipt.',
    remedy: 'Start private steps as part of a run only. If the ledger was exchanged, see `epsilonflow ledger verify`.',
  },
  LEDGER_CORRUPT: {
    exit: 1,
    retryable: false,
    summary: 'The privacy ledger was changed, cut or exchanged behind its back.',
    remedy:
      '`epsilonflow ledger verify` names the first row that is wrong. Put a good copy back; do not spend on this one.',
  },
  LEDGER_TOO_NEW: {
    exit: 1,
    retryable: false,
    summary: 'The privacy ledger was made by a newer version.',
    remedy: 'Use the version of Epsilonflow that made the ledger, or a newer one.',
  },
  // An attempt that woke late may have fenced the present one: what Temporal tries again is the present one only.
  FENCED: {
    exit: 1,
    retryable: true,
    summary: 'A newer attempt has taken over this step.',
    remedy: 'Nothing is to be done: the newer attempt goes on.',
  },
  RELEASE_REFUSED: {
    exit: 3,
    retryable: false,
    summary: 'Something not labelled dp or public was asked to be released.',
    remedy:
      'Release synthetic sets, adapters and models that are labelled dp or public; `epsilonflow plan SPEC` shows labels.',
  },
  BUNDLE_INVALID: {
    exit: 2,
    retryable: false,
    summary: 'A folder of evidence lacks a file, holds another, or one was changed.',
    remedy: 'Export the evidence again, to an empty folder, and hand it on whole.',
  },
  // Running
  STEP_FAILED: {
    exit: 1,
    retryable: false,
    summary: 'A step failed in a way that a retry would repeat.',
    remedy:
      '`epsilonflow logs RUN INSTANCE` shows what the step wrote. Run the spec again after mending the cause: what has finished is reused.',
  },
  COMPILE_REFUSED: {
    exit: 1,
    retryable: false,
    summary: 'A function of tensors cannot be compiled: it is not pure or uses an unknown op.',
    remedy: 'Pass random numbers, masks and counters as inputs; docs/compile.md lists what a compiled function may do.',
  },
  COMPILED_INPUT_INVALID: {
    exit: 1,
    retryable: false,
    summary: 'A compiled function was called with inputs of other names, or after it was disposed.',
    remedy: 'Call the function with the inputs that it was compiled for, before it is disposed.',
  },
  MODEL_INVALID: {
    exit: 2,
    retryable: false,
    summary: 'A model folder or weight file is missing, damaged or of another architecture.',
    remedy: 'Fetch the model again. Families and formats that can be read are in docs/concepts.md.',
  },
  MODEL_UNFIT: {
    exit: 2,
    retryable: false,
    summary: 'A model takes more memory than its step may, or has fewer positions than its step asks for.',
    remedy: 'Raise `memory`, or lower the length of texts (`sequence`), the rank or the model.',
  },
  WORKER_DIED: {
    exit: 1,
    retryable: true,
    summary: 'The worker of an attempt died; the step goes on elsewhere.',
    remedy: 'Nothing is to be done: the step goes on with the next worker. `epsilonflow up` or `run` starts one.',
  },
  WORKER_STOPPED: {
    exit: 1,
    retryable: true,
    summary: 'The worker of an attempt was stopped; the step goes on later.',
    remedy: 'Start a worker again: `epsilonflow worker`, or `epsilonflow run SPEC`.',
  },
  WORKER_BUSY: {
    exit: 1,
    retryable: true,
    summary: 'A worker was given a step while all its places for jobs were taken; the step went back to its queue.',
    remedy:
      'Nothing is to be done: the step starts where a place is free. More workers, or `--jobs`, make more places.',
  },
  JOB_CRASHED: {
    exit: 1,
    retryable: true,
    summary: 'The process of a step ended unexpectedly.',
    remedy:
      '`epsilonflow logs RUN INSTANCE` shows its last words. It is tried three times, each from the last checkpoint.',
  },
  OUT_OF_MEMORY: {
    exit: 1,
    retryable: true,
    summary: 'The system ended the process of a step because memory ran out.',
    remedy:
      'Lower `memory` of the step, which then works on fewer texts at a time, run fewer jobs at a time (`epsilonflow worker --jobs 1`), or close other programs. It is tried three times, each from the last checkpoint.',
  },
  DISK_FULL: {
    exit: 1,
    retryable: true,
    summary: 'No space is left on the disk.',
    remedy: 'Make room. Steps try again and go on where they were.',
  },
  STORE_READ_ONLY: {
    exit: 1,
    retryable: false,
    summary: 'The state folder cannot be written to.',
    remedy: 'Make the state folder writable for the user who runs the worker, then run the spec again.',
  },
  STORE_REFUSED: {
    exit: 4,
    retryable: false,
    summary: 'The shared store refuses access, or its bucket does not exist.',
    remedy:
      'Correct EPSILONFLOW_STORE_URL and the AWS_* settings that go with it, on every machine: see docs/operations.md.',
  },
  PLAN_MISSING: {
    exit: 1,
    retryable: false,
    summary: 'A plan that a run refers to is not in the state folder.',
    remedy: 'Run the spec again: it is planned anew, and results that are in the store are reused.',
  },
  PLAN_ALTERED: {
    exit: 1,
    retryable: false,
    summary: 'A plan in the state folder is not the one that its run was started with.',
    remedy: 'Run the spec again: the plan is written anew, and results that are in the store are reused.',
  },
  NOISE_KEY_LOST: {
    exit: 1,
    retryable: false,
    summary: 'The noise key of a private step is gone or damaged.',
    remedy: 'What was reserved for the step stays charged. Run the spec again: the step starts anew, as a new entry.',
  },
  INPUT_MISSING: {
    exit: 1,
    retryable: false,
    summary: 'A result that a step reads is not in the store, or damaged.',
    remedy: 'Run the spec again: what is missing is made again.',
  },
  CANCELLED: {
    exit: 5,
    retryable: false,
    summary: 'The run was cancelled.',
    remedy: 'Run the spec again to go on: what has finished is reused.',
  },
  // Services and set-up
  SERVICE_UNREACHABLE: {
    exit: 4,
    retryable: true,
    summary: 'Temporal, MLflow or another service cannot be reached.',
    remedy: '`epsilonflow doctor` says which service does not answer; `epsilonflow up` starts the local ones.',
  },
  SETUP_INCOMPLETE: {
    exit: 4,
    retryable: false,
    summary: 'A part that set-up installs is missing or broken.',
    remedy: 'Run the command again: set-up goes on where it was. `epsilonflow doctor` names the part.',
  },
});

export type ErrorCode = keyof typeof errorCodes;
