/** @file What the processes of chaos trials and the program that starts them tell each other. */

/** One process's part in the life of an experiment: it goes on from whatever is on disk. */
export interface Life {
  /** Run state of the trial's host. */
  home: string;
  ledgerUrl: string;
  planDigest: string;
  experiment: string;
  nodeIds: string[];
  /** Counts the processes of this experiment. */
  attempt: number;
  spendingLog: string;
  /** Workers that share a secret can make a lost noise key again. */
  runSecret: string | null;
  fromAnotherState: boolean;
  /** Where this process ends. */
  dies: { boundary: string; count: number } | null;
}

export interface LifeEnd {
  result: 'completed' | 'refused' | 'failed';
  /** Of the project's error that ended it. */
  code: string | null;
  /** Anything else that was thrown: a fault. */
  fault: string | null;
  /** How often each boundary was reached. */
  reached: Record<string, number>;
}

export const workflowIdOf = (experiment: string): string => `${experiment}/1`;
