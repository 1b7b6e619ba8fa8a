/** @file The plan: what a spec compiles to, and all that workflows and activities ever read of it. */

import type { Position } from './errors.ts';
import type { StepParams } from './step-params.ts';

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };

/** What may leave: `public` and `dp` anywhere; `non-private` only inside the private store, or under a waiver. */
export type Label = 'public' | 'dp' | 'non-private';

/** `benchmark` is public data standing in for private data: recorded in the ledger, metrics may leave. */
export type Sensitivity = 'public' | 'benchmark' | 'private';

export type StepKind = keyof StepParams;

export interface PlanFile {
  /** Absolute path. */
  path: string;
  format: 'jsonl' | 'json' | 'csv' | 'tsv' | 'parquet' | 'txt';
  compression: 'none' | 'gzip' | 'brotli';
}

export interface PlanDataset {
  name: string;
  files: Partial<Record<'train' | 'validation' | 'test', PlanFile>>;
  /** Name of the text column. */
  text: string;
  label: { column: string; values: string[] } | null;
  sensitivity: Sensitivity;
  /** Absent when `sensitivity` is `public`. */
  privacy: DatasetPrivacy | null;
  /** Digest of canonical records and reading options, hex; an HMAC when the dataset is private. */
  digest: string;
}

export interface DatasetPrivacy {
  unit: 'record';
  /** Declared public number of training records; everything private is derived from it, never from a count. */
  size: number;
  /** `size` is the file's count, treated as public: the privacy statement says so. */
  counted: boolean;
  delta: number;
  /** Null: recorded only (benchmark). */
  budget: { epsilon: number } | null;
  /** Epsilon above which a run waits for approval; absent without one. */
  softBudget?: number;
}

export interface PlanModel {
  name: string;
  /** Absolute path of a folder in Hugging Face layout. */
  path: string;
  digest: string;
}

/** One mechanism value is read by sampler, trainer and accountant. */
export interface PoissonGaussianMechanism {
  kind: 'poisson-gaussian';
  /** q = expectedBatchSize / declared size. */
  samplingProbability: number;
  /** sigma: standard deviation of the noise over the clip norm. */
  noiseMultiplier: number;
  steps: number;
  clipNorm: number;
  expectedBatchSize: number;
  /** `exact`: sums and noise are integers on a grid, so that the proof holds for what the machine computes. */
  arithmetic: 'exact' | 'float';
}

/** Training without DP (`epsilon: inf`): recorded as unbounded. */
export interface UnboundedMechanism {
  kind: 'unbounded';
}

export type TrainingMechanism = PoissonGaussianMechanism | UnboundedMechanism;

/** Counts of test records with two-sided geometric noise, one value a cell (Ghosh, Roughgarden, Sundararajan 2012). */
export interface DiscreteLaplaceMechanism {
  kind: 'discrete-laplace';
  /** P(z) is proportional to exp(-|z| / scale), z in records. */
  scale: number;
  /** One record adds one to one cell: L1 distance of neighbours' tables. */
  sensitivity: 1;
}

export type Mechanism = TrainingMechanism | DiscreteLaplaceMechanism;

/** One charge: a mechanism that runs once on one split of a dataset. */
export interface NodePrivacy<M extends Mechanism = TrainingMechanism> {
  dataset: string;
  /** What the spec asked for. */
  targetEpsilon: number | 'inf';
  /** What the mechanism costs by itself at `delta`; at most the target. Null when unbounded. */
  epsilon: number | null;
  delta: number;
  accountant: 'rdp' | 'pld';
  mechanism: M;
  /** sha256 over the canonical JSON of dataset digest, delta and mechanism. */
  digest: string;
}

/** Any charge of a node: see `chargesOf`. */
export type NodeCharge = NodePrivacy<Mechanism>;

/** Where an input comes from. `nodes` has more than one entry only for inputs that gather (`compare`). */
export type PlanInput = { dataset: string } | { model: string } | { nodes: string[] };

export interface PlanNode<K extends StepKind = StepKind> {
  /** Stable and readable: `step[axis=value,...]`. */
  id: string;
  /** For Temporal ids, MLflow keys and file names: `[a-z0-9-]`, unique in the plan. */
  slug: string;
  step: string;
  kind: K;
  kindVersion: number;
  /** Content key, sha256 hex. */
  key: string;
  axes: Record<string, string | number>;
  /** Every default resolved; references to other nodes are in `inputs`, never here. */
  params: StepParams[K];
  /** By role: `data`, `model`, `generator`, `train`, `test`, `arms.NAME`, `ceiling` ... */
  inputs: Record<string, PlanInput>;
  /** Ids of nodes that must end first, for order or data; sorted, unique. */
  needs: string[];
  label: Label;
  /** The most sensitive dataset that it derives from. */
  sensitivity: Sensitivity;
  /** Names of waivers that apply. */
  waivers: string[];
  position: Position;
  /** Null when not looked up; not part of the digest. */
  cached: boolean | null;
  /** It does not start before its step is approved; absent when it may. */
  approval?: 'required';
  /** What its process needs; absent for a processor alone. Changes no result but in last bits, and no content key. */
  device?: 'gpu';
  /** Training on a train split: charged to the dataset's account. */
  privacy?: NodePrivacy;
  /** Noisy test counts: charged to the account of the test split. */
  release?: NodePrivacy<DiscreteLaplaceMechanism>;
}

export interface PlanAccount {
  /** Epsilon committed and reserved on the account before this experiment; null offline, or when unbounded. */
  before: number | null;
  /** Epsilon of this plan's charged mechanisms composed. It leaves out the nodes that `unbounded` counts. */
  experiment: number;
  /** Epsilon of the account with what this plan would newly charge; null offline, or when unbounded. */
  after: number | null;
  budget: number | null;
  delta: number;
  /** Nodes that train on the dataset without DP: while there are any, no epsilon bounds the experiment as a whole. */
  unbounded: number;
  /** The same of all that the account holds already; null offline. */
  unboundedBefore: number | null;
  /** Rule of the ledger that decides on admission; null offline. */
  rule: 'recorded' | 'fixed-plan' | 'renyi-filter' | null;
}

export interface Plan {
  planVersion: 1;
  name: string;
  /** sha256 over the canonical JSON of the plan without `digest`, `cached`, `before`, `after`. */
  digest: string;
  spec: { file: string; profile: string | null };
  /**
   * Steps that run again although results are there, each with a random word that enters the content keys of its
   * instances, and so those of all that is made from them. Absent when there are none.
   */
  reruns?: { step: string; nonce: string }[];
  failure: 'continue' | 'fail-fast';
  waivers: { name: string; reason: string }[];
  datasets: Record<string, PlanDataset>;
  models: Record<string, PlanModel>;
  /** In topological order, then in declaration order. */
  nodes: PlanNode[];
  /** By account: the dataset's name, `NAME/test` for its test split. */
  privacy: Record<string, PlanAccount>;
}
