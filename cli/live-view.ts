/**
 * @file Live view of a run: on a terminal a block at the bottom that is redrawn, with what has ended above it;
 * elsewhere plain lines. Goes to stderr, so that stdout holds results only.
 */

import { describeApproval } from '../schemas/approvals.ts';
import type { LiveProgress } from '../activities/live-progress.ts';
import type { PartialSum } from '../tracking/estimates.ts';
import type { NodeSummary, RunEvent } from '../tracking/events.ts';
import { styled } from './output.ts';
import { leftText } from './time-left.ts';

export interface LiveState {
  /** Instances of the plan. */
  total: number;
  /** By node id; absent ones wait. */
  nodes: ReadonlyMap<string, NodeSummary>;
  progress: readonly LiveProgress[];
  /** Seconds; null for a run without estimates. */
  left: PartialSum | null;
}

export interface LiveView {
  /** Something happened. */
  event(event: RunEvent): void;
  /** Draws how far everything is; call it a few times a second. */
  draw(state: LiveState): void;
  /** A line that stays. */
  say(line: string): void;
  end(): void;
}

const out = process.stderr;
const paint = (style: Parameters<typeof styled>[0], text: string): string => styled(style, text, out);

export const createLiveView = (): LiveView => (out.isTTY ? new TerminalView() : new LineView());

/** Plain lines tell how far a long step is about so often, milliseconds. */
const lineEvery = 30_000;

class LineView implements LiveView {
  private lastProgress = Date.now();

  say(line: string): void {
    out.write(`${line}\n`);
  }

  event(event: RunEvent): void {
    const line = describeEvent(event);
    if (line) this.say(line);
  }

  draw({ total, nodes, progress, left }: LiveState): void {
    if (Date.now() - this.lastProgress < lineEvery) return;
    this.lastProgress = Date.now();
    const done = [...nodes.values()].filter(({ status }) => status === 'completed').length;
    const ahead = left === null ? '' : `, ${leftText(left)}`;
    this.say(
      `... ${done} of ${total} instances done${ahead}${progress.map((step) => `; ${describeProgress(step)}`).join('')}`,
    );
  }

  end(): void {
    // Every line was written already.
  }
}

class TerminalView implements LiveView {
  private drawn = 0;
  private block: string[] = [];

  say(line: string): void {
    this.erase();
    out.write(`${line}\n`);
    this.redraw();
  }

  event(event: RunEvent): void {
    if (event.type === 'node-started' && event.attempt === 1) return;
    const line = describeEvent(event);
    if (line) this.say(line);
  }

  draw({ total, nodes, progress, left }: LiveState): void {
    const count = (status: NodeSummary['status']): number =>
      [...nodes.values()].filter((node) => node.status === status).length;
    const done = count('completed');
    const failed = count('failed') + count('skipped');
    const running = [...nodes].filter(([, { status }]) => status === 'running').map(([id]) => id);
    const rows = Math.max(1, (out.rows ?? 24) - 4);
    this.block = [
      `${bar(done / Math.max(1, total), 24)} ${done}/${total} instances${failed > 0 ? paint('red', `, ${failed} failed or skipped`) : ''}${left === null ? '' : `, ${leftText(left)}`}`,
      ...running.slice(0, rows).map((id) => {
        const step = progress.find(({ node }) => node === id);
        return `  ${step ? describeProgress(step) : `${id} ${paint('dim', 'starting')}`}`;
      }),
    ].map((line) => cut(line, (out.columns ?? 80) - 1));
    this.erase();
    this.redraw();
  }

  end(): void {
    this.erase();
    this.block = [];
  }

  private erase(): void {
    if (this.drawn > 0) out.write(`\u001b[${this.drawn}A\u001b[J`);
    this.drawn = 0;
  }

  private redraw(): void {
    if (this.block.length === 0) return;
    out.write(`${this.block.join('\n')}\n`);
    this.drawn = this.block.length;
  }
}

function describeEvent(event: RunEvent): string | null {
  switch (event.type) {
    case 'node-started':
      return event.attempt === 1
        ? `${paint('cyan', 'start ')} ${event.node}`
        : `${paint('yellow', 'again ')} ${event.node} ${paint('dim', `attempt ${event.attempt}, from its last checkpoint`)}`;
    case 'node-completed': {
      if (event.reused) return `${paint('green', 'reused')} ${event.node}${figures(event.metrics)}`;
      return `${paint('green', 'done  ')} ${event.node} ${seconds(event.seconds)}${figures(event.metrics)}`;
    }
    case 'node-failed':
      return `${paint('red', 'failed')} ${event.node}: ${event.code}: ${event.message}`;
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

export const seconds = (value: number): string =>
  value < 90 ? `${value.toFixed(value < 10 ? 1 : 0)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;

export const describeProgress = ({ node, phase, done, total, unit }: LiveProgress): string =>
  `${node} ${phase}${total > 0 ? ` ${Math.round(10 * done) / 10}/${total} ${unit}` : ''}`;

function bar(fraction: number, width: number): string {
  const filled = Math.round(Math.min(1, fraction) * width);
  return paint('green', '█'.repeat(filled)) + paint('dim', '░'.repeat(width - filled));
}

/** Cuts to a number of characters that show; colour codes count none. */
function cut(line: string, width: number): string {
  const parts = line.split(/(\u001b\[\d+m)/);
  let left = width;
  return parts
    .map((part) => {
      if (part.startsWith('\u001b')) return part;
      const kept = part.slice(0, Math.max(0, left));
      left -= part.length;
      return kept;
    })
    .join('');
}
