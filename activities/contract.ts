/** @file What workflows and activities say to each other. Types only: every value here is small and travels as JSON. */

import type { SearchAttributePair } from '@temporalio/common';
import type { FencingToken, KnownHead, Receipt } from '../privacy/ledger/ledger.ts';
import type { Approval, PendingApproval } from '../schemas/approvals.ts';
import type { MechanismProof } from '../schemas/artifact.ts';
import type { Scheduling } from '../schemas/scheduling.ts';
import type { Plan, Sensitivity, StepKind } from '../schemas/plan.ts';
import type { Passed } from '../tracking/door.ts';
import type { StepQueue } from './step-queue.ts';

export interface RunIdentity {
  name: string;
  number: number;
  workflowId: string;
  planDigest: string;
}

/** What the workflow of a run is started with, by command or by a schedule. */
export interface RunWorkflowOptions {
  workflowId: string;
  workflowIdReusePolicy: 'REJECT_DUPLICATE';
  staticSummary: string;
  staticDetails: string;
  typedSearchAttributes: SearchAttributePair[];
  priority: { fairnessKey: string; priorityKey?: number };
}

/** What one firing of a schedule may charge to an account, and what it may show of the account's records. */
export interface AgreedAccount {
  /** At `delta`, of the mechanisms as planned; null where no epsilon bounds it. */
  epsilon: number | null;
  delta: number;
  /** The account of the ledger that pays. */
  ledgerAccount: string;
  sensitivity: Sensitivity;
  /** Under which exact figures of its records leave; sorted. */
  waivers: string[];
}

/** A spec that a schedule runs, as it was agreed to when the schedule was made. */
export interface ScheduledSpec {
  /** Name of the schedule. */
  schedule: string;
  /** Absolute path. */
  specFile: string;
  profile: string | null;
  cron: string;
  /** By account. Absent accounts: nothing. Schedules of old versions have numbers, which are no agreement. */
  agreed: Record<string, AgreedAccount | number | null>;
  /** In place of the spec's. */
  priority?: number;
  /** Name of the state folder where it was made: there lie spec, data and earlier firings. Absent: any, as in old versions. */
  folder?: string;
}

/** What a firing of a schedule found: a run to start, or one of the same plan that is under way. */
export type PreparedFiring =
  | { run: RunIdentity; ledgerHead: KnownHead | null; limits: Partial<RunLimits>; options: RunWorkflowOptions }
  | { underWay: string };

/** Of a ledger entry: the right to run one charged mechanism of a private node once. */
export type StepReceipt = Receipt;

/** What the interpreter reads of a plan node. */
export interface PlannedNode extends StepQueue {
  id: string;
  slug: string;
  kind: StepKind;
  key: string;
  needs: string[];
  /** Each needs a receipt of its own; empty for nodes that spend no privacy. */
  charges: PlannedCharge[];
  /** Names of datasets behind it, and target epsilons of the training behind it; absent for none. */
  datasets?: readonly string[];
  epsilons?: readonly string[];
  /** Its step, when that must be approved first. */
  approval?: string;
}

export interface PlannedCharge {
  /** Name of the account. */
  dataset: string;
  mechanismDigest: string;
}

export interface PlanSlice {
  /** Present when an account has a soft budget. */
  hasSoftBudgets?: true;
  failure: Plan['failure'];
  nodes: PlannedNode[];
  /** Index of the first node of the next slice; null at the end. */
  next: number | null;
}

export interface CachedSlice {
  /** Ids of nodes whose result is in the store and, for private ones, in the ledger. */
  cached: string[];
  next: number | null;
}

/** What the ledger gave out for a run. */
export interface ReservedBudget {
  receipts: StepReceipt[];
  ledgerHead: KnownHead;
}

export interface StepRequest {
  run: RunIdentity;
  nodeId: string;
  /** One a charge, in the order of the node's charges; empty for nodes that spend no privacy. */
  receipts: StepReceipt[];
  /** A row that the ledger held before; null for nodes that spend no privacy. */
  ledgerHead: KnownHead | null;
  /** How often a pause stopped the step before; absent for none. */
  pauses?: number;
}

export interface StepOutcome {
  key: string;
  metrics: Passed<Record<string, number>>;
  seconds: number;
  attempt: number;
  /** Private nodes: what `commitPrivateStep` needs, in the order of the receipts. */
  commits: { token: FencingToken; proof: MechanismProof | null }[];
  /** Newest row of the ledger at the end; null for nodes that spend no privacy. */
  ledgerHead: KnownHead | null;
}

export interface PrivateStepInput {
  run: RunIdentity;
  node: PlannedNode;
  receipts: StepReceipt[];
  ledgerHead: KnownHead | null;
  /** Absent in children of runs that wait for them (see `OneHistory`). */
  tie?: ExperimentTie;
}

export interface StepBatchInput {
  run: RunIdentity;
  nodes: BatchedNode[];
  tie: ExperimentTie;
  /** Absent for batches of runs that were started before they could continue as new. */
  events?: number;
  /** Whether it continues in a pause. */
  paused?: boolean;
}

/**
 * Spends no privacy. `needs` are places in the same batch: all others have ended well. Batches of runs that were started
 * before places were used have ids.
 */
export interface BatchedNode extends Pick<PlannedNode, 'id' | 'slug' | 'kind' | keyof StepQueue> {
  needs: number[] | string[];
  /** How often its step was stopped before; absent for never. */
  pauses?: number;
}

/** What ties a child to the experiment that it reports to. */
export interface ExperimentTie {
  /** By this name the experiment knows it; end of its workflow id. */
  child: string;
  /** How often it looks whether the experiment still runs, milliseconds. */
  lookEvery: number;
  /** How long what has ended waits for more to be told with it, milliseconds; absent: a second. */
  gatherFor?: number;
}

/** Signal of a child to its experiment; given twice it counts once. */
export interface StepReport {
  child: string;
  ends: StepEnd[];
  /** Newest row of the ledger that the child knows of; null when it spends no privacy. */
  ledgerHead: KnownHead | null;
}

/** What became of a node that a child was given. */
export type StepEnd =
  | { end: 'completed'; node: string }
  | ({ end: 'failed' } & NodeFailure)
  | { end: 'cancelled'; node: string }
  /** Not started, for the end of another node, or (null) because the child was cancelled. */
  | { end: 'skipped'; node: string; because: string | null };

/** What bounds the histories of a run, and what it does at a time. */
export interface RunLimits {
  /** Most steps in flight by what they run on; absent: no bound. */
  atATime?: Scheduling['limits'];
  /** Whether all steps of a child count, also those that wait for others of it; absent: they take over places. */
  ownPlaces?: boolean;
  /** Events that a run of the workflow may add to what it began with before it continues as new. */
  events: number;
  /** Most nodes of a child. */
  batch: number;
  /** Most nodes in children at a time. Temporal refuses more than 2000 pending children of one workflow. */
  inFlight: number;
  /** Most private nodes started by one workflow task: Temporal ends a workflow whose task answers with more than 4 MiB. */
  paidTogether: number;
  /** Events after which a batch goes on in a new history; half of that when it is paused. */
  batchEvents: number;
  /** How often the experiment looks after children that have not reported, milliseconds. */
  lookEvery: number;
}

/** What a run of the workflow hands on when it continues as new, beside the ledger's head. */
export interface CarriedRun {
  /** A letter for each node in plan order: see `encodeStates`. */
  states: string;
  /** Children that have not told of all their nodes: name, and ids of these nodes. */
  children: [name: string, nodes: string[]][];
  /** Batches started so far. */
  batches: number;
  reused: number;
  failures: NodeFailure[];
  /** When children are looked after next, milliseconds since 1970. */
  nextLook: number;
  /** Absent when it was never paused. */
  paused?: boolean;
  /** Whether the children have been told of it. */
  childrenPaused?: boolean;
  approvals?: Approval[];
  /** How many of them are in the event log; absent: all. */
  recordedApprovals?: number;
}

/** An account that a run would bring above its soft budget, with what it would come to; null when unbounded. */
export type SoftOverrun = PendingApproval['accounts'][number];

export interface NodeFailure {
  node: string;
  code: string;
  message: string;
  hint: string | null;
}

export interface ExperimentResult {
  status: 'completed' | 'failed' | 'cancelled';
  nodes: number;
  completed: number;
  reused: number;
  failed: number;
  skipped: number;
  /** At most 20. */
  failures: NodeFailure[];
}

export interface ExperimentStatus extends ExperimentResult {
  /** `pausing`: its children have not been told yet. `waiting`: for approval, and nothing else runs. */
  phase: 'starting' | 'running' | 'pausing' | 'paused' | 'waiting' | 'finishing' | 'done';
  /** Workflow ids of children that have not ended. */
  children: string[];
  /** What waits for approval. */
  awaiting: PendingApproval | null;
  running: string[];
  waiting: number;
}

/**
 * Activities of the control queue, as the workflows call them. Implemented in `activities/`. Those that change the
 * ledger return its head, so that histories show how far it was, and are given the newest one that the history holds:
 * they refuse an older copy put in the ledger's place, with LEDGER_ROLLED_BACK or LEDGER_MISMATCH.
 */
export interface ControlActivities {
  readPlanSlice(planDigest: string, from: number): Promise<PlanSlice>;
  findCached(planDigest: string, from: number): Promise<CachedSlice>;
  startRun(run: RunIdentity): Promise<void>;
  recordReused(run: RunIdentity, nodeIds: string[]): Promise<void>;
  recordSettled(run: RunIdentity, settled: SettledNode[]): Promise<void>;
  recordPause(run: RunIdentity, paused: boolean): Promise<void>;
  recordAwaited(run: RunIdentity, awaited: PendingApproval): Promise<void>;
  recordApproval(run: RunIdentity, approval: Approval): Promise<void>;
  /** Accounts that charges of the listed nodes would bring above their soft budgets. */
  findSoftOverruns(run: RunIdentity, nodeIds: string[], known: KnownHead | null): Promise<SoftOverrun[]>;
  /** Reserves every charge of the listed private nodes in one transaction. */
  reservePlan(run: RunIdentity, nodeIds: string[], known: KnownHead | null): Promise<KnownHead>;
  /** Receipts of nodes whose charges `reservePlan` has reserved; throws RECEIPT_INVALID where one is not held any more. */
  readReceipts(run: RunIdentity, nodeIds: string[], known: KnownHead | null): Promise<StepReceipt[]>;
  /** Both at once, for runs with one history. */
  reserveBudget(run: RunIdentity, nodeIds: string[], known: KnownHead | null): Promise<ReservedBudget>;
  releaseBudget(run: RunIdentity, known: KnownHead | null): Promise<KnownHead>;
  openPrivateStep(
    run: RunIdentity,
    receipts: StepReceipt[],
    known: KnownHead | null,
    stepWorkflowId?: string,
  ): Promise<KnownHead>;
  /** The head that it is given is the outcome's. */
  commitPrivateStep(request: StepRequest, outcome: StepOutcome): Promise<KnownHead>;
  closePrivateStep(run: RunIdentity, receipts: StepReceipt[]): Promise<void>;
  /** Those of the workflows that do not run any more, or never did. */
  findEnded(run: RunIdentity, workflowIds: string[]): Promise<string[]>;
  /**
   * Compiles the spec of a schedule anew, prepares the ledger and writes a run down.
   *
   * @param firing id of the workflow that fires: called again for it, the answer is the same run
   * @throws what keeps the run from being started, as for the command `run`; SPENDING_UNCONFIRMED for more than was agreed to
   */
  prepareFiring(spec: ScheduledSpec, firing: string): Promise<PreparedFiring>;
  endRun(run: RunIdentity, status: ExperimentResult['status']): Promise<void>;
  writeRunReport(run: RunIdentity): Promise<void>;
  publishToTracker(run: RunIdentity): Promise<void>;
}

/** A node that ended without a result. */
export type SettledNode =
  | ({ end: 'failed' } & Omit<NodeFailure, 'hint'>)
  | { end: 'cancelled'; node: string }
  | { end: 'skipped'; node: string; because: string };

/** One activity type a step kind. */
export type StepActivities = Record<StepKind, (request: StepRequest) => Promise<StepOutcome>>;
