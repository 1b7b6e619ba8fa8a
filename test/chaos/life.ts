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
  /** File of what the workflow's history remembers; null when it is lost with every process. */
  history: string | null;
  /** Workers that share a secret can make a lost noise key again. */
  runSecret: string | null;
  fromAnotherState: boolean;
  /** Where this process ends, or stands still as if its host had: then its work goes to another, and it wakes later. */
  dies: { boundary: string; count: number; freezes: boolean } | null;
}

export interface LifeEnd {
  /** `superseded`: it woke up, and could not or must not go on. */
  result: 'completed' | 'refused' | 'failed' | 'superseded';
  /** Of the project's error that ended it. */
  code: string | null;
  /** Anything else that was thrown: a fault. */
  fault: string | null;
  /** How often each boundary was reached. */
  reached: Record<string, number>;
}

export const workflowIdOf = (experiment: string): string => `${experiment}/1`;
