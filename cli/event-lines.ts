/** @file What happened in a run, a line an event, for those who watch. */

import { describeApproval } from '../schemas/approvals.ts';
import type { RunEvent } from '../tracking/events.ts';
import { duration } from '../tracking/wording.ts';
import type { Paint } from './output.ts';

/** Of larger runs starts and ends of single instances are not told: the counts of their steps are. */
const mostInstances = 100;

/** Failures that are told one by one. */
const mostFailures = 20;

export class EventLines {
  private readonly paint: Paint;
  private readonly isLarge: boolean;
  private readonly tellsStarts: boolean;
  private failures = 0;

  /** @param tellsStarts whether beginnings are told; not where running instances are seen anyway */
  constructor({ instances, tellsStarts, paint }: { instances: number; tellsStarts: boolean; paint: Paint }) {
    this.paint = paint;
    this.isLarge = instances > mostInstances;
    this.tellsStarts = tellsStarts;
  }

  /** None for an event that is not told. */
  of(event: RunEvent): string[] {
    if (event.type === 'node-failed') return this.failure(event);
    if (this.isLarge && isOrdinary(event)) return [];
    if (!this.tellsStarts && event.type === 'node-started' && event.attempt === 1) return [];
    const line = describeEvent(event, this.paint);
    return line === null ? [] : [line];
  }

  private failure({ node, code, message }: Extract<RunEvent, { type: 'node-failed' }>): string[] {
    this.failures += 1;
    const failed = this.paint('red', 'failed');
    if (this.failures <= mostFailures) return [`${failed} ${node}: ${code}: ${message}`];
    return this.failures === mostFailures + 1
      ? [`${failed} more than ${mostFailures} instances: see epsilonflow status`]
      : [];
  }
}

const isOrdinary = (event: RunEvent): boolean =>
  (event.type === 'node-started' && event.attempt === 1) ||
  ['node-completed', 'node-skipped', 'node-cancelled'].includes(event.type);

function describeEvent(event: RunEvent, paint: Paint): string | null {
  switch (event.type) {
    case 'node-started':
      return event.attempt === 1
        ? `${paint('cyan', 'start ')} ${event.node}`
        : `${paint('yellow', 'again ')} ${event.node} ${paint('dim', `attempt ${event.attempt}, from its last checkpoint`)}`;
    case 'node-completed': {
      if (event.reused) return `${paint('green', 'reused')} ${event.node}${figures(event.metrics)}`;
      return `${paint('green', 'done  ')} ${event.node} ${duration(event.seconds)}${figures(event.metrics)}`;
    }
    case 'node-cancelled':
      return `${paint('yellow', 'cancel')} ${event.node}`;
    case 'node-skipped':
      return `${paint('yellow', 'skip  ')} ${event.node}: ${event.because}`;
    case 'approval-awaited':
      return `${paint('yellow', 'waits ')} for approval of ${describeApproval(event)}: epsilonflow approve RUN --reason TEXT`;
    case 'approved':
      return `${paint('green', 'approved')} by ${event.author}: ${event.reason}`;
    case 'checkpoint-unsent':
      return `${paint('yellow', 'warning')} ${event.node}: a checkpoint did not reach the shared store: ${event.code}`;
    case 'checkpoint-sent':
      return `${paint('green', 'sent  ')} ${event.node}: its newest checkpoint, to the shared store`;
    case 'run-paused':
      return `${paint('yellow', 'paused')} its steps stop at a checkpoint`;
    case 'run-resumed':
      return `${paint('cyan', 'resume')} from the checkpoints`;
    default:
      return null;
  }
}

const shownMetrics = ['accuracy', 'macroF1', 'records', 'loss', 'validationLoss'];

function figures(metrics: Record<string, number>): string {
  const shown = shownMetrics.filter((name) => typeof metrics[name] === 'number').slice(0, 2);
  return shown.map((name) => ` ${name} ${figure(metrics[name]!)}`).join(',');
}

const figure = (value: number): string => (Number.isInteger(value) ? String(value) : value.toPrecision(3));
