/**
 * @file The event log of a run: one JSON object a line, appended by the workflow's activities and never rewritten.
 * Report, tracker and terminal are all made from it, so what they say can always be made again.
 *
 * An activity that is retried may append an event twice, and a crash may tear the last line: readers use
 * `summariseRun` (`run-summary.ts`), which counts a repeated event once, and skip what is no whole line.
 */

import { closeSync, existsSync, fstatSync, fsyncSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { PendingApproval } from '../schemas/approvals.ts';
import type { Passed } from './door.ts';

export type RunStatus = 'completed' | 'failed' | 'cancelled';

/** Times are milliseconds since 1970; `node` is the id of a plan node. */
export type RunEvent =
  | { type: 'run-started'; time: number; name: string; number: number; workflowId: string; planDigest: string }
  | { type: 'node-started'; time: number; node: string; attempt: number }
  | { type: 'metric'; time: number; node: string; name: string; value: number; step: number }
  | {
      type: 'node-completed';
      time: number;
      node: string;
      /** Content key of the artifact. */
      key: string;
      /** Its result lay in the store already: nothing was run. */
      reused: boolean;
      metrics: Record<string, number>;
      /** Seconds that the step took; when reused, what it took here: about 0. */
      seconds: number;
      attempt: number;
      /** Ledger entries charged for it. */
      ledgerEntries?: string[];
    }
  | { type: 'node-failed'; time: number; node: string; code: string; message: string }
  | { type: 'node-cancelled'; time: number; node: string }
  /** Its inputs failed or the run was stopped before it could start. */
  | { type: 'node-skipped'; time: number; node: string; because: string }
  /** Its newest checkpoint could not be sent to the store that hosts share; tried again until `checkpoint-sent`. */
  | { type: 'checkpoint-unsent'; time: number; node: string; code: string }
  | { type: 'checkpoint-sent'; time: number; node: string }
  /** Its steps stop at a checkpoint, and go on from there afterwards. */
  | { type: 'run-paused' | 'run-resumed'; time: number }
  /** The run waits for someone's approval of steps, or of what accounts come to. */
  | ({ type: 'approval-awaited'; time: number } & PendingApproval)
  | ({ type: 'approved'; time: number; author: string; reason: string } & PendingApproval)
  | { type: 'run-completed'; time: number; status: RunStatus };

export const eventLog = (runDirectory: string): string => join(runDirectory, 'events.jsonl');

/** Appends whole lines in one write, so that several processes may append at once; synced unless only metrics. */
export function appendEvents(runDirectory: string, events: readonly Passed<RunEvent>[]): void {
  if (events.length === 0) return;
  mkdirSync(runDirectory, { recursive: true });
  const file = openSync(eventLog(runDirectory), 'a+');
  try {
    const lines = events.map((event) => encode(event) + '\n').join('');
    const data = Buffer.from(endsInsideLine(file) ? '\n' + lines : lines);
    let written = 0;
    while (written < data.length) written += writeSync(file, data, written);
    if (events.some((event) => event.type !== 'metric')) fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/**
 * Whole events from a byte offset on, and the offset to go on from. A torn or unreadable line is skipped.
 *
 * @param types only these: quicker than to read all where a log holds many metrics
 */
export function readEvents(
  runDirectory: string,
  fromByte = 0,
  types?: readonly RunEvent['type'][],
): { events: RunEvent[]; nextByte: number } {
  const path = eventLog(runDirectory);
  if (!existsSync(path)) return { events: [], nextByte: fromByte };
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(Math.max(0, fstatSync(file).size - fromByte));
    let filled = 0;
    while (filled < buffer.length) {
      const got = readSync(file, buffer, filled, buffer.length - filled, fromByte + filled);
      if (got === 0) break;
      filled += got;
    }
    const end = buffer.subarray(0, filled).lastIndexOf(0x0a) + 1;
    return { events: decodeEvents(buffer.toString('utf8', 0, end), types), nextByte: fromByte + end };
  } finally {
    closeSync(file);
  }
}

const endsInsideLine = (file: number): boolean => {
  const size = fstatSync(file).size;
  if (size === 0) return false;
  const last = Buffer.alloc(1);
  readSync(file, last, 0, 1, size - 1);
  return last[0] !== 0x0a;
};

// JSON has no NaN or Infinity; a diverged loss must still be seen as such, so they travel as strings.
const encode = (event: RunEvent): string =>
  JSON.stringify(event, (_key, value: unknown) =>
    typeof value === 'number' && !Number.isFinite(value) ? { nonFinite: String(value) } : value,
  );

/** The events of whole lines; others are skipped. */
export const decodeEvents = (lines: string, types?: readonly RunEvent['type'][]): RunEvent[] =>
  lines.split('\n').flatMap((line) => {
    if (types && !types.some((type) => line.includes(`"${type}"`))) return [];
    const event = decode(line);
    return event && (types?.includes(event.type) ?? true) ? [event] : [];
  });

const decode = (line: string): RunEvent | null => {
  if (!line.startsWith('{')) return null;
  try {
    return JSON.parse(line, (_key, value: unknown) =>
      typeof value === 'object' && value !== null && 'nonFinite' in value ? Number(value.nonFinite) : value,
    ) as RunEvent;
  } catch {
    return null;
  }
};
