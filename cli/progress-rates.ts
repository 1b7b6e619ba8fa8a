/** @file How fast running steps go, by what they have told of their progress. */

import type { LiveProgress } from '../activities/live-progress.ts';

/** What happened longer ago tells nothing of the present pace, milliseconds; of slow steps the last two changes do. */
const memory = 30_000;

interface Pace {
  phase: string;
  /** How much was done, and when that was told first, milliseconds. */
  points: { done: number; time: number }[];
}

export class ProgressRates {
  private readonly paces = new Map<string, Pace>();

  /** Takes what all running steps tell now; others are forgotten. */
  note(progress: readonly LiveProgress[]): void {
    const nodes = new Set(progress.map(({ node }) => node));
    for (const node of this.paces.keys()) if (!nodes.has(node)) this.paces.delete(node);
    for (const step of progress) if (step.total > 0) this.take(step);
  }

  private take({ node, phase, done, time }: LiveProgress): void {
    let pace = this.paces.get(node);
    const last = pace?.points.at(-1);
    // Another phase, or another attempt that goes on from a checkpoint.
    if (!pace || pace.phase !== phase || done < last!.done) this.paces.set(node, (pace = { phase, points: [] }));
    else if (done === last!.done) return;
    pace.points.push({ done, time });
    while (pace.points.length > 2 && pace.points[0]!.time < time - memory) pace.points.shift();
  }

  /** Units a second; null while nothing tells. @param now milliseconds since 1970 */
  of(node: string, now: number): number | null {
    const points = this.paces.get(node)?.points ?? [];
    const [first, last] = [points[0], points.at(-1)];
    if (!first || !last || last.time <= first.time) return null;
    const interval = (last.time - first.time) / (points.length - 1);
    // A step that stands still gets slower with each look.
    const until = now - last.time > interval ? now - interval : last.time;
    return (1000 * (last.done - first.done)) / (until - first.time);
  }
}
