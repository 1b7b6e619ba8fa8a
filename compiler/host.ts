/** @file What the compiler asks of the world. With it given, compiling is a function of the spec's text. */

import type { DatasetSource } from '../datasets/index.ts';
import type { CalibratedNoise } from '../privacy/calibration.ts';
import type { ComposedEpsilon, MechanismEvent } from '../privacy/accounting/index.ts';
import type { EpsilonflowError } from '../schemas/errors.ts';
import type { NodeCharge, PlanDataset, PlanNode } from '../schemas/plan.ts';

export interface CompileHost {
  /** @throws EpsilonflowError SPEC_FILE_MISSING, DATA_ENCODING */
  readSpec(path: string): Promise<string>;
  /** Checks a dataset and digests it. Messages tell nothing of private rows unless the host was asked to inspect. */
  inspectDataset(source: DatasetSource): Promise<DatasetFindings>;
  /**
   * Path of a model of the hub, fetched if it is not there.
   *
   * @throws EpsilonflowError MODEL_MISSING, MODEL_INVALID, SERVICE_UNREACHABLE
   */
  hubModel(model: { name: string; reference: string }): Promise<string>;
  /** sha256 over the files of a model. @throws EpsilonflowError MODEL_MISSING */
  modelDigest(path: string): Promise<string>;
  /** Least noise for a target epsilon, on the safe side. */
  calibrate(request: {
    targetEpsilon: number;
    delta: number;
    samplingProbability: number;
    steps: number;
  }): CalibratedNoise;
  /** Epsilon of a composition on one dataset. */
  compose(events: readonly MechanismEvent[], delta: number): ComposedEpsilon;
  /** Which of these content keys have a result that may be used again; null: not looked up. */
  cached: ((keys: readonly CacheQuery[]) => Promise<ReadonlySet<string>>) | null;
  /** What the ledger says of accounts, in the order asked; null: not asked. */
  accounts: ((requests: readonly AccountRequest[], plan: AccountContext) => Promise<AccountFigures[]>) | null;
}

export interface DatasetFindings {
  faults: EpsilonflowError[];
  /** Null when there are faults. */
  digest: string | null;
  /** Records of the train split; null when there is none or it could not be read. */
  trainRecords: number | null;
}

export interface CacheQuery {
  key: string;
  /** Names of the charges behind it: a stored result counts only when this ledger holds what paid for them. */
  charges: string[];
}

export interface AccountContext {
  /** Name of the spec. */
  experiment: string;
  /** Accounts whose records are registered with the plan, though it asks nothing of them: see `shownBenchmarksOf`. */
  shown: readonly string[];
}

export interface PendingCharge {
  node: PlanNode;
  charge: NodeCharge;
}

export interface AccountRequest {
  /** Name of the account; `dataset` is the one whose train or test split it stands for. */
  account: string;
  dataset: PlanDataset;
  /** What would be charged now: charges of nodes whose results are not there already, each content key once. */
  pending: readonly PendingCharge[];
}

/** What the ledger says of an account. */
export interface AccountFigures {
  /** The account of the ledger that pays: that of a dataset follows its records, not its name. */
  ledgerAccount: string;
  /** Epsilon committed and reserved before; null when unbounded. */
  before: number | null;
  /** Epsilon with `pending`; null when unbounded. */
  after: number | null;
  /** The budget that holds, stated by the spec or kept by the ledger; null: none. */
  budget: number | null;
  unboundedBefore: number;
  rule: 'recorded' | 'fixed-plan' | 'renyi-filter';
  admitted: boolean;
  /** The epsilon that the rule holds against the budget; null without a budget or when unbounded. */
  decisive: number | null;
}
