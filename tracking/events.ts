/**
 * @file The event log of a run: one JSON object a line, appended by the workflow's activities and never rewritten.
 * Report, tracker and terminal are all made from it, so what they say can always be made again.
 *
 * An activity that is retried may append an event twice, and a crash may tear the last line: readers use
 * `summariseRun`, which counts a repeated event once, and skip what is no whole line.
 */

import { closeSync, existsSync, fstatSync, fsyncSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Approval, PendingApproval } from '../schemas/approvals.ts';
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

export interface CurvePoint {
  step: number;
  value: number;
  time: number;
}

export interface NodeSummary {
  status: 'waiting' | 'running' | 'completed' | 'failed' | 'cancelled' | 'skipped';
  startedAt: number | null;
  endedAt: number | null;
  attempt: number;
  key: string | null;
  reused: boolean;
  metrics: Record<string, number>;
  seconds: number;
  ledgerEntries: string[];
  failure: { code: string; message: string } | null;
  /** Why its newest checkpoint lies on its own host alone, and since when; null when nothing is known to be amiss. */
  unsent: { code: string; since: number } | null;
  /** Per-step curves by metric name; the first value of a step counts, for a repeated step repeats exactly. */
  curves: Map<string, CurvePoint[]>;
}

export interface RunSummary {
  name: string | null;
  number: number | null;
  workflowId: string | null;
  planDigest: string | null;
  status: RunStatus | 'running';
  isPaused: boolean;
  /** What waits for approval now; null when nothing does. */
  awaiting: PendingApproval | null;
  approvals: Approval[];
  startedAt: number | null;
  endedAt: number | null;
  nodes: Map<string, NodeSummary>;
}

const approvalOf = ({ author, reason, time, steps, accounts }: Approval): Approval => ({
  ...{ author, reason, time },
  ...{ steps, accounts },
});

/** What people read of a run's state. `waiting`: for approval, while nothing else runs. */
export function stateOf(run: RunSummary): RunStatus | 'running' | 'paused' | 'waiting' {
  if (run.status !== 'running') return run.status;
  if (run.isPaused) return 'paused';
  const isBusy = [...run.nodes.values()].some(({ status }) => status === 'running');
  return run.awaiting !== null && !isBusy ? 'waiting' : 'running';
}

/** State of a run from its events, in log order. Nodes of which the log says nothing are absent. Pure. */
export function summariseRun(events: readonly RunEvent[]): RunSummary {
  const run: RunSummary = {
    name: null,
    number: null,
    workflowId: null,
    planDigest: null,
    status: 'running',
    isPaused: false,
    awaiting: null,
    approvals: [],
    startedAt: null,
    endedAt: null,
    nodes: new Map(),
  };
  const seen = new Set<string>();
  const nodeOf = (id: string): NodeSummary => {
    let node = run.nodes.get(id);
    if (!node) run.nodes.set(id, (node = emptyNode()));
    return node;
  };
  for (const event of events) {
    switch (event.type) {
      case 'run-started':
        if (run.startedAt === null) {
          run.name = event.name;
          run.number = event.number;
          run.workflowId = event.workflowId;
          run.planDigest = event.planDigest;
          run.startedAt = event.time;
        }
        break;
      case 'run-completed':
        run.status = event.status;
        run.isPaused = false;
        run.awaiting = null;
        run.endedAt ??= event.time;
        break;
      case 'run-paused':
      case 'run-resumed':
        run.isPaused = event.type === 'run-paused';
        if (run.isPaused) for (const node of run.nodes.values()) if (node.status === 'running') node.status = 'waiting';
        break;
      case 'approval-awaited':
        run.awaiting = { steps: event.steps, accounts: event.accounts };
        break;
      case 'approved':
        run.awaiting = null;
        if (run.approvals.some(({ time }) => time === event.time)) break;
        run.approvals.push(approvalOf(event));
        break;
      case 'metric': {
        const point = JSON.stringify([event.node, event.name, event.step]);
        if (seen.has(point)) break;
        seen.add(point);
        const curves = nodeOf(event.node).curves;
        const curve = curves.get(event.name) ?? [];
        curves.set(event.name, curve);
        curve.push({ step: event.step, value: event.value, time: event.time });
        break;
      }
      case 'checkpoint-unsent':
        nodeOf(event.node).unsent ??= { code: event.code, since: event.time };
        break;
      case 'checkpoint-sent':
        nodeOf(event.node).unsent = null;
        break;
      default:
        applyToNode(nodeOf(event.node), event);
    }
  }
  return run;
}

type NodeEvent = Extract<RunEvent, { node: string; type: `node-${string}` }>;

function applyToNode(node: NodeSummary, event: NodeEvent): void {
  // A result stays a result, whatever a late or repeated event says.
  if (node.status === 'completed') return;
  if (event.type !== 'node-started') node.unsent = null;
  switch (event.type) {
    case 'node-started':
      // From another host, and late: that attempt's end is known.
      if (node.endedAt !== null && event.attempt <= node.attempt) return;
      node.status = 'running';
      node.startedAt ??= event.time;
      node.attempt = Math.max(node.attempt, event.attempt);
      node.failure = null;
      node.endedAt = null;
      return;
    case 'node-completed':
      node.status = 'completed';
      node.startedAt ??= event.time;
      node.endedAt = event.time;
      node.attempt = Math.max(node.attempt, event.attempt);
      node.key = event.key;
      node.reused = event.reused;
      node.metrics = event.metrics;
      node.seconds = event.seconds;
      node.ledgerEntries = event.ledgerEntries ?? [];
      node.failure = null;
      return;
    case 'node-failed':
      node.status = 'failed';
      node.endedAt = event.time;
      node.failure = { code: event.code, message: event.message };
      return;
    case 'node-cancelled':
      node.status = 'cancelled';
      node.endedAt = event.time;
      return;
    case 'node-skipped':
      node.status = 'skipped';
      node.endedAt = event.time;
      node.failure = { code: 'SKIPPED', message: event.because };
      return;
  }
}

const emptyNode = (): NodeSummary => ({
  status: 'waiting',
  startedAt: null,
  endedAt: null,
  attempt: 0,
  key: null,
  reused: false,
  metrics: {},
  seconds: 0,
  ledgerEntries: [],
  failure: null,
  unsent: null,
  curves: new Map(),
});

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
