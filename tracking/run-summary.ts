/** @file What a run's event log says: the state of the run and of each instance. */

import type { Approval, PendingApproval } from '../schemas/approvals.ts';
import type { RunEvent, RunStatus } from './events.ts';

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
export const summariseRun = (events: readonly RunEvent[]): RunSummary => new GrowingSummary().add(events);

/** The same of a log that grows: each event is looked at once. */
export class GrowingSummary {
  private readonly run = emptyRun();
  private readonly seen = new Set<string>();

  /** @returns the state after these events, too: one value, which changes with the next ones */
  add(events: readonly RunEvent[]): RunSummary {
    for (const event of events) this.take(event);
    return this.run;
  }

  private take(event: RunEvent): void {
    const { run } = this;
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
      case 'metric':
        this.addPoint(event);
        break;
      case 'checkpoint-unsent':
        this.nodeOf(event.node).unsent ??= { code: event.code, since: event.time };
        break;
      case 'checkpoint-sent':
        this.nodeOf(event.node).unsent = null;
        break;
      default:
        applyToNode(this.nodeOf(event.node), event);
    }
  }

  private addPoint({ node, name, step, value, time }: Extract<RunEvent, { type: 'metric' }>): void {
    const point = JSON.stringify([node, name, step]);
    if (this.seen.has(point)) return;
    this.seen.add(point);
    const { curves } = this.nodeOf(node);
    const curve = curves.get(name) ?? [];
    curves.set(name, curve);
    curve.push({ step, value, time });
  }

  private nodeOf(id: string): NodeSummary {
    let node = this.run.nodes.get(id);
    if (!node) this.run.nodes.set(id, (node = emptyNode()));
    return node;
  }
}

const emptyRun = (): RunSummary => ({
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
});

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
