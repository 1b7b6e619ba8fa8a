/** @file What an `audit` step finds, as it stands in its `audit.json`. */

/** A value with its 95 % interval. */
export interface AuditedValue {
  value: number;
  low: number;
  high: number;
}

/** How well scores tell records that were trained on from test records. */
export interface AuditedMembership {
  /** Area under the ROC curve. */
  area: AuditedValue;
  /** Share of the training records that are found while so few test records are taken for such. */
  rates: { falseAlarms: number; rate: number; low: number; high: number }[];
}

/** Canaries that were planted so many times. */
export interface AuditedRepetition {
  repetitions: number;
  /** Bits, one a canary. */
  exposures: number[];
  /** Share of the canaries that stand whole in the texts drawn. */
  leaked: AuditedValue;
}

export interface AuditFindings {
  /** What the audited training claims; null where it has no mechanism, or none with an epsilon. */
  claim: {
    /** At the delta of the account. */
    epsilon: number;
    delta: number;
    /** At the delta of the bound, which follows from the same mechanism. */
    epsilonOfBound: number;
  } | null;
  bound: {
    /** Lower bound of epsilon at `delta`, wrong with probability `failure` at most. */
    epsilon: number;
    delta: number;
    failure: number;
    /** Unrepeated canaries; guesses that were made of them, and those that were right. */
    canaries: number;
    guesses: number;
    correct: number;
    /** What so many canaries could show at most. */
    most: number;
  };
  repeated: AuditedRepetition[];
  /** Most that an exposure can be, bits. */
  mostExposure: number;
  /** Texts drawn from the generator with canaries. */
  samples: number;
  /** Training records, and as many test records, behind what follows. */
  rows: number;
  /** Of the model, and of the synthetic set alone. */
  membership: { model: AuditedMembership; synthetic: AuditedMembership };
  /** Tokens of the longest run that the synthetic set has in common with the training and with the test records. */
  longestRun: { train: number; test: number };
}
