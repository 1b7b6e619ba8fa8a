/** @file What there is to see of a run that goes on, read from where it is written: only what is new each time. */

import { readProgress, type LiveProgress } from '../activities/live-progress.ts';
import type { Plan } from '../schemas/plan.ts';
import { openStore } from '../store/index.ts';
import type { PartialSum } from '../tracking/estimates.ts';
import { readEvents, type RunEvent } from '../tracking/events.ts';
import { GrowingSummary, type RunSummary } from '../tracking/run-summary.ts';
import type { RunFolder } from '../tracking/runs.ts';
import type { LiveState, RunningStep } from './live-block.ts';
import { progressElsewhere, takeFromOthers } from './other-hosts.ts';
import { ProgressRates } from './progress-rates.ts';
import { groupsOf } from './run-groups.ts';
import { openClock, type Clock } from './time-left.ts';

export interface LookedAt {
  folder: RunFolder;
  plan: Plan;
  /** Where the run can be looked at elsewhere. */
  links: () => LiveState['links'];
}

/** How often time left and links are made out, milliseconds. */
const slowlyEvery = 2_000;

export class RunLook {
  /** Changes with everything that happens. */
  news = 0;
  /** What accounts come to, for people. */
  spent: readonly string[] = [];
  readonly run: RunSummary;
  private readonly at: LookedAt;
  private clock: Clock | null = null;
  private readonly store = openStore();
  private readonly summary = new GrowingSummary();
  private readonly rates = new ProgressRates();
  /** Beginnings and ends of instances, for the clock. */
  private readonly instances: RunEvent[] = [];
  private nextByte = 0;
  private elsewhere: LiveProgress[] = [];
  private shown = '';
  private slowlyAt = -Infinity;
  private groups: LiveState['groups'];
  private running: readonly string[] = [];
  private left: PartialSum | null = null;
  private links: LiveState['links'] = [];

  constructor(at: LookedAt) {
    this.at = at;
    this.run = this.summary.add([]);
    this.groups = groupsOf(at.plan, this.run.nodes);
    // A run is shown before its estimate has been asked for elsewhere, and without one.
    void openClock(at.folder, this.store).then(
      (clock) => (this.clock = clock),
      () => undefined,
    );
  }

  /** Whether other hosts may have something to say. */
  get hasOthers(): boolean {
    return this.store.logs !== null;
  }

  /** Takes what other hosts have said. */
  async askOthers(say?: (line: string) => void): Promise<void> {
    await takeFromOthers(this.store, [this.at.folder], say);
    this.elsewhere = await progressElsewhere(this.store, this.at.folder, say);
  }

  /** What has happened since the last time, and how far all is. */
  take(): [RunEvent[], LiveState] {
    const now = Date.now();
    const events = this.takeEvents();
    const progress = [...readProgress(this.at.folder.directory), ...this.elsewhere];
    this.rates.note(progress);
    const told = JSON.stringify(progress);
    if (told !== this.shown) this.news += 1;
    this.shown = told;
    if (now - this.slowlyAt >= slowlyEvery) this.takeSlowly(now, progress);
    return [events, { ...this.counts(progress, now), left: this.left, spent: this.spent, links: this.links }];
  }

  private takeEvents(): RunEvent[] {
    const { events, nextByte } = readEvents(this.at.folder.directory, this.nextByte);
    this.nextByte = nextByte;
    // Curves are not shown, and would fill the memory of a long look.
    const told = events.filter(({ type }) => type !== 'metric');
    if (told.length === 0) return told;
    this.news += 1;
    this.summary.add(told);
    for (const event of told) {
      if (event.type === 'node-started' || event.type === 'node-completed') this.instances.push(event);
    }
    this.groups = groupsOf(this.at.plan, this.run.nodes);
    this.running = [...this.run.nodes].filter(([, { status }]) => status === 'running').map(([id]) => id);
    return told;
  }

  private takeSlowly(now: number, progress: readonly LiveProgress[]): void {
    this.slowlyAt = now;
    this.left = this.clock?.({ events: this.instances, nodes: this.run.nodes, progress }) ?? null;
    this.links = this.at.links();
  }

  private counts(progress: readonly LiveProgress[], now: number): Pick<LiveState, 'groups' | 'running'> {
    const byNode = new Map(progress.map((step) => [step.node, step]));
    const running = this.running.map((node): RunningStep => {
      return { node, progress: byNode.get(node) ?? null, rate: this.rates.of(node, now) };
    });
    return { groups: this.groups, running };
  }
}
