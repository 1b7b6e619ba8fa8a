/** @file What a step's code gets and gives. Step code runs in a child process of its own, away from the worker. */

import { readPlanned, type DatasetRecords } from '../datasets/index.ts';
import type { MechanismProof, OpenedArtifact, ReleaseProof } from '../schemas/artifact.ts';
import type { Plan, PlanDataset, PlanNode, StepKind } from '../schemas/plan.ts';

export type { OpenedArtifact };

export interface JobInput<K extends StepKind = StepKind> {
  node: PlanNode<K>;
  datasets: Plan['datasets'];
  models: Plan['models'];
  /** Artifacts of the input nodes, by role. */
  artifacts: Record<string, OpenedArtifact[]>;
  /** Empty folder for the result's files; published as a whole when the step returns. */
  outputDirectory: string;
  /** Folder that outlives attempts; mode 0700. Holds the step's own checkpoints, written by atomic rename. */
  checkpointDirectory: string;
  /** Private nodes only: file of mode 0600 with the 32-byte key of this node's noise and sampling. */
  noiseKeyFile: string | null;
  /** Steps that read a private dataset: keys its digest (hex). Never written anywhere. */
  datasetSecret: string | null;
}

/** A planned dataset of this step, read and checked against the plan. @throws EpsilonflowError what `readPlanned` throws */
export const readInput = ({ datasetSecret }: JobInput, dataset: PlanDataset): Promise<DatasetRecords> =>
  readPlanned(dataset, datasetSecret === null ? null : Buffer.from(datasetSecret, 'hex'));

export interface JobProgress {
  /** `load`, `compile`, `index`, `train`, `generate`, `evaluate`, `write` ... */
  phase: string;
  done: number;
  total: number;
  /** What `done` counts: `steps`, `records`, `tokens`. */
  unit: string;
}

/** Thrown inside a job by `checkpointBarrier` when cancellation was asked for. */
export class JobCancelled extends Error {
  override readonly name = 'JobCancelled';
}

/** Which of its node's charges a step is about to use. */
export type AnnouncedCharge = 'training' | 'release';

export interface JobContext {
  /** Reports real progress; the activity heartbeats on it. Cheap: call as often as you like. */
  progress(progress: JobProgress): void;
  /** A point of a per-step curve. Only numbers whose label may leave (see the node's label and sensitivity). */
  metric(name: string, value: number, step: number): void;
  /**
   * Yields to the event loop so that messages arrive; throws JobCancelled when asked to stop.
   * Call at least once a second of computing.
   */
  breathe(): Promise<void>;
  /** True once when cancellation or pause was asked for and a last checkpoint should be written before `breathe` throws. */
  readonly stopping: boolean;
  /**
   * Private nodes: call before step `step`'s noise is used; resolves when the ledger has durably recorded it.
   * `stateDigest` (hex) is the digest that the noise is derived from: of the incoming state and how sums are computed.
   * The release of test counts is step 0 of its own charge. `batchSize`, how many records were drawn for it, goes to the
   * ledger alone.
   */
  announceStep(step: number, stateDigest: string, charge: AnnouncedCharge, batchSize: number | null): Promise<void>;
  /** Checks that this attempt still owns the step; throws FENCED if not. Call before a checkpoint becomes visible. */
  checkFence(): Promise<void>;
}

export interface StepOutput {
  metrics: Record<string, number>;
  summary?: Record<string, unknown>;
  /** Private nodes: what the trainer really did; compared with the reservation at commit. */
  proof?: MechanismProof;
  /** The same of the release of test counts. */
  releaseProof?: ReleaseProof;
}

/** The code of a step kind: `activities/<kind>.ts` exports one as `run`. */
export type StepRunner<K extends StepKind> = (input: JobInput<K>, context: JobContext) => Promise<StepOutput>;
