/**
 * @file What became of the firings of a schedule, in `schedules/NAME.jsonl`: Temporal forgets ended workflows after a
 * day on the local server.
 */

import { appendFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { statePaths } from '../stack/paths.ts';

export interface FiringFault {
  code: string;
  message: string;
  hint: string | null;
}

export type FiringEnd =
  | { end: 'run'; run: string }
  /** A run of the same plan was under way. */
  | { end: 'under-way'; run: string }
  | { end: 'refused'; errors: FiringFault[] };

export type FiringRecord = FiringEnd & {
  /** Id of its workflow. */
  firing: string;
  /** ISO 8601, UTC. */
  time: string;
};

export function recordFiring(schedule: string, firing: string, end: FiringEnd): void {
  const file = statePaths.firings(schedule);
  mkdirSync(dirname(file), { recursive: true });
  const record: FiringRecord = { firing, time: new Date().toISOString(), ...end };
  // In front, too: what a crash tore off must not take the next line with it.
  appendFileSync(file, `\n${JSON.stringify(record)}\n`, { mode: 0o600 });
}

/** By id of the firing's workflow: what was written of it last. */
export function readFirings(schedule: string): Map<string, FiringRecord> {
  const firings = new Map<string, FiringRecord>();
  for (const line of linesOf(statePaths.firings(schedule))) {
    try {
      const record = JSON.parse(line) as FiringRecord;
      firings.set(record.firing, record);
    } catch {
      // Torn by a crash: its firing is tried again and written again.
    }
  }
  return firings;
}

export const forgetFirings = (schedule: string): void => rmSync(statePaths.firings(schedule), { force: true });

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
