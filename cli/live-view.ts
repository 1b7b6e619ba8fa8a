/**
 * @file Live view of a run: on a terminal a block at the bottom that is redrawn, with what has ended above it;
 * elsewhere plain lines. Goes to stderr, so that stdout holds results only.
 */

import type { RunEvent } from '../tracking/events.ts';
import { EventLines } from './event-lines.ts';
import { renderBlock, renderLine, widthOf, type LiveState } from './live-block.ts';
import { styled, type Paint } from './output.ts';

export interface LiveView {
  /** Tells what happened since, and draws how far everything is; call it a few times a second. */
  show(news: readonly RunEvent[], state: LiveState): void;
  /** A line that stays. */
  say(line: string): void;
  end(): void;
}

const out = process.stderr;
const paint: Paint = (style, text) => styled(style, text, out);

/** @param instances of the plan */
export const createLiveView = (instances: number): LiveView =>
  out.isTTY ? new TerminalView(instances) : new LineView(instances);

/** Plain lines tell how far the run is about so often, milliseconds. */
const lineEvery = 30_000;

class LineView implements LiveView {
  private lastLine = Date.now();
  private readonly lines: EventLines;

  constructor(instances: number) {
    this.lines = new EventLines({ instances, tellsStarts: true, paint });
  }

  say(line: string): void {
    out.write(`${line}\n`);
  }

  show(news: readonly RunEvent[], state: LiveState): void {
    for (const line of news.flatMap((event) => this.lines.of(event))) this.say(line);
    if (Date.now() - this.lastLine < lineEvery) return;
    this.lastLine = Date.now();
    this.say(renderLine(state));
  }

  end(): void {
    // Every line was written already.
  }
}

class TerminalView implements LiveView {
  private block: string[] = [];
  private readonly lines: EventLines;

  constructor(instances: number) {
    this.lines = new EventLines({ instances, tellsStarts: false, paint });
  }

  say(line: string): void {
    this.write([line], this.block);
  }

  show(news: readonly RunEvent[], state: LiveState): void {
    const lines = news.flatMap((event) => this.lines.of(event));
    const block = renderBlock(state, { columns: out.columns ?? 80, rows: out.rows ?? 24 }, paint);
    const isSame = block.length === this.block.length && block.every((line, place) => line === this.block[place]);
    if (lines.length > 0 || !isSame) this.write(lines, block);
  }

  end(): void {
    this.write([], []);
  }

  /** All at once, so that nothing flickers. */
  private write(lines: readonly string[], block: string[]): void {
    out.write(this.erasure() + [...lines, ...block].map((line) => `${line}\n`).join(''));
    this.block = block;
  }

  /** A terminal that has become narrower shows a line of the block on several. */
  private erasure(): string {
    const columns = Math.max(1, out.columns ?? 80);
    const rows = this.block.reduce((sum, line) => sum + Math.max(1, Math.ceil(widthOf(line) / columns)), 0);
    return rows === 0 ? '' : `\u001b[${rows}A\u001b[J`;
  }
}
