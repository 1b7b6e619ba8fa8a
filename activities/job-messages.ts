/** @file What the worker and the process of a step tell each other over IPC. */

import type { ErrorCode } from '../schemas/error-codes.ts';
import type { AnnouncedCharge, JobInput, JobProgress, StepOutput } from './job.ts';

export interface JobFault {
  /** Null when the step failed with something else than the project's own error. */
  code: ErrorCode | null;
  /** The project's own messages hold no private text; of other errors only the class may leave a private step. */
  message: string;
  errorClass: string;
  hint: string | null;
}

export interface MetricPoint {
  name: string;
  value: number;
  step: number;
  /** Milliseconds since 1970. */
  time: number;
}

export type ToJob =
  { type: 'start'; input: JobInput } | { type: 'stop' } | { type: 'reply'; id: number; fault: JobFault | null };

export type FromJob =
  | { type: 'progress'; progress: JobProgress }
  | { type: 'metrics'; points: MetricPoint[] }
  | {
      type: 'announce-step';
      id: number;
      step: number;
      stateDigest: string;
      charge: AnnouncedCharge;
      batchSize: number | null;
    }
  | { type: 'check-fence'; id: number }
  | { type: 'result'; output: StepOutput }
  | { type: 'cancelled' }
  | { type: 'fault'; fault: JobFault };
