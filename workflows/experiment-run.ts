/**
 * @file What all runs of experiments do: they read the plan by slices, look up what is there already, reserve the whole
 * envelope, keep the books of nodes, and report. All decisions are made by the pure scheduler and guard.
 */

import { describeApproval, type Approval } from '../schemas/approvals.ts';
import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  isCancellation,
  setCurrentDetails,
  TemporalFailure,
} from '@temporalio/workflow';
import type {
  CachedSlice,
  ExperimentResult,
  ExperimentStatus,
  NodeFailure,
  PlannedNode,
  PlanSlice,
  RunIdentity,
  SettledNode,
  StepEnd,
} from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { Approvals } from './approvals.ts';
import { control, reading, reporting } from './control.ts';
import { createGuard, type Guard } from './guard.ts';
import { stepTable } from './step-table.ts';
import { advance, createSchedule, type Schedule, type ScheduleEvent } from './scheduler.ts';

/** How long the tracker may lag behind while a run goes on, milliseconds. */
const publishEvery = 15_000;

/** Nodes noted by one activity: a payload of Temporal holds 2 MB. */
const mostNoted = 2_000;

export abstract class ExperimentRun {
  protected readonly run: RunIdentity;
  protected readonly nodes = new Map<string, PlannedNode>();
  protected failFast = false;
  private hasSoftBudgets = false;
  protected approvals = new Approvals();
  protected schedule: Schedule = createSchedule([]);
  protected guard: Guard = createGuard([]);
  protected phase: ExperimentStatus['phase'] = 'starting';
  /** As it was asked for last. */
  protected isPaused = false;
  protected reused = 0;
  protected failures: NodeFailure[] = [];
  /** Cancelled when someone asks for it. */
  protected readonly root = CancellationScope.current();
  /** Cancelled with the root, or by a failure under `fail-fast`: nothing more may start, and what runs must stop. */
  protected readonly work = new CancellationScope();
  private cancelled = false;
  protected publishing: Promise<void> | null = null;
  /** Newest row of the ledger that this history holds: whatever asks the ledger for something asks for this row, too. */
  protected ledgerHead: KnownHead | null;
  /** Ended the run as a whole, beside its nodes. */
  private fatal: Error | null = null;
  private lastPublished = 0;

  constructor(run: RunIdentity, ledgerHead: KnownHead | null) {
    this.run = run;
    this.ledgerHead = ledgerHead;
  }

  protected abstract readSlice(from: number): Promise<PlanSlice>;
  protected abstract reserve(nodeIds: string[]): Promise<void>;
  /** Ids of nodes that run, or may: nothing that they need is missing. */
  protected abstract underWay(): string[];

  async prepare(): Promise<void> {
    await control.startRun(this.run);
    await this.readPlan();
    this.schedule = createSchedule([...this.nodes.values()]);
    for (let from: number | null = 0; from !== null;) {
      const slice: CachedSlice = await reading.findCached(this.run.planDigest, from);
      if (slice.cached.length > 0) await control.recordReused(this.run, slice.cached);
      for (const id of slice.cached) this.takeOver(id);
      from = slice.next;
    }
    const planned = [...this.guard.planned.values()];
    const unpaid = planned.filter(({ id }) => this.schedule.states.get(id) !== 'completed').map(({ id }) => id);
    if (unpaid.length > 0 && this.hasSoftBudgets) await this.awaitSoftBudgets(unpaid);
    if (unpaid.length > 0) await this.reserve(unpaid);
  }

  /** Asks again after an approval: meanwhile others may have spent. */
  private async awaitSoftBudgets(unpaid: string[]): Promise<void> {
    for (;;) {
      const accounts = await control.findSoftOverruns(this.run, unpaid, this.ledgerHead);
      if (this.approvals.wait({ accounts })) await control.recordAwaited(this.run, this.approvals.waiting!);
      this.describe();
      if (this.approvals.waiting === null) return;
      await condition(() => this.approvals.hasUnrecorded());
      await this.recordApprovals();
    }
  }

  /** @returns null when nothing waits for it */
  approve(author: string, reason: string): Approval | null {
    return this.approvals.give(author, reason, Date.now());
  }

  protected async recordApprovals(): Promise<void> {
    for (const approval of this.approvals.takeUnrecorded()) await control.recordApproval(this.run, approval);
  }

  protected async readPlan(): Promise<void> {
    for (let from: number | null = 0; from !== null;) {
      const slice: PlanSlice = await this.readSlice(from);
      this.failFast = slice.failure === 'fail-fast';
      this.hasSoftBudgets = slice.hasSoftBudgets ?? false;
      for (const node of slice.nodes) this.nodes.set(node.id, node);
      from = slice.next;
    }
    this.guard = createGuard([...this.nodes.values()]);
  }

  protected haltReason(): string {
    return this.root.consideredCancelled
      ? 'the run was cancelled'
      : 'another instance failed, and failure is fail-fast';
  }

  /** @returns what is to be noted of it */
  protected settle(end: StepEnd): SettledNode[] {
    if (end.end === 'completed') return this.apply({ type: 'completed', id: end.node });
    if (end.end === 'cancelled') return [end, ...this.apply({ type: 'cancelled', id: end.node })];
    if (end.end === 'skipped') {
      return this.apply({ type: 'dropped', id: end.node, because: end.because ?? this.haltReason() });
    }
    const { node, code, message, hint } = end;
    this.failures.push({ node, code, message, hint });
    return [{ end: 'failed', node, code, message }, ...this.apply({ type: 'failed', id: node })];
  }

  protected async note(settled: readonly SettledNode[]): Promise<void> {
    for (let from = 0; from < settled.length; from += mostNoted) {
      await control.recordSettled(this.run, settled.slice(from, from + mostNoted));
    }
  }

  protected apply(event: ScheduleEvent): SettledNode[] {
    const { schedule, skipped } = advance(this.schedule, event);
    this.schedule = schedule;
    return skipped.map(({ node, because }) => ({ end: 'skipped', node, because }));
  }

  /** A node whose result is there already. */
  protected takeOver(id: string): void {
    if (this.schedule.states.get(id) === 'completed') return;
    this.apply({ type: 'completed', id });
    this.reused += 1;
  }

  protected async halt(because: string): Promise<void> {
    await this.note(this.apply({ type: 'halted', because }));
  }

  protected publishSoon(): void {
    if (this.publishing || Date.now() - this.lastPublished < publishEvery) return;
    this.lastPublished = Date.now();
    this.publishing = reporting
      .publishToTracker(this.run)
      .catch(() => undefined)
      .finally(() => {
        this.publishing = null;
      });
  }

  stopBy(error: unknown): void {
    if (isCancellation(error)) this.cancelled = true;
    else if (error instanceof TemporalFailure) this.fatal ??= error;
    // A fault of this code: failing the workflow's task, not the workflow, leaves the run to a corrected worker.
    else throw error;
  }

  async finish(): Promise<void> {
    this.phase = 'finishing';
    this.cancelled ||= this.root.consideredCancelled;
    await this.halt(this.cancelled ? 'the run was cancelled' : 'the run could not start');
    // Refused, for an older copy of the ledger, it gives nothing back, and the run ends all the same.
    await control.releaseBudget(this.run, this.ledgerHead).catch((error: unknown) => this.stopBy(error));
    await control.endRun(this.run, this.result().status);
    await this.publishing;
    // Reports and trackers are made from the event log and can be made again by command: they fail no run.
    await reporting.writeRunReport(this.run).catch(() => undefined);
    await reporting.publishToTracker(this.run).catch(() => undefined);
    this.phase = 'done';
    this.describe();
  }

  conclude(): ExperimentResult {
    if (this.fatal) throw this.fatal;
    const result = this.result();
    if (result.status === 'completed') return result;
    if (result.status === 'cancelled') throw new CancelledFailure('The run was cancelled');
    throw ApplicationFailure.create({
      type: 'STEP_FAILED',
      nonRetryable: true,
      message: `${result.failed} of ${result.nodes} instances failed, ${result.skipped} were skipped.`,
      details: [result],
    });
  }

  private result(): ExperimentResult {
    const { completed, failed, skipped } = this.schedule.counts;
    const nodes = this.schedule.states.size;
    const whole = !this.fatal && !this.cancelled && completed === nodes;
    return {
      status: this.cancelled ? 'cancelled' : whole ? 'completed' : 'failed',
      nodes,
      completed,
      reused: this.reused,
      failed,
      skipped,
      failures: this.failures.slice(0, 20),
    };
  }

  /** What Temporal's page of the workflow shows at its top, Markdown. */
  protected describe(): void {
    const { completed, failed, skipped } = this.schedule.counts;
    const running = this.isPaused ? [] : this.underWay();
    const paused = `**Paused.** \`epsilonflow resume ${this.run.name}/${this.run.number}\` goes on from the checkpoints.`;
    const lines = [
      ...(this.isPaused ? [paused] : []),
      ...this.describeApprovals(),
      `**${this.run.name}/${this.run.number}**: ${completed} of ${this.schedule.states.size} instances done` +
        ` (${this.reused} reused), ${running.length} running, ${failed} failed, ${skipped} skipped`,
      ...this.describeSteps(running),
      ...running.slice(0, 50).map((id) => this.describeRunning(id)),
      ...this.failures.slice(0, 20).map(({ node, code, message }) => `- failed: \`${node}\`: ${code}: ${message}`),
    ];
    setCurrentDetails(lines.join('\n'));
  }

  /** Whether a worker has taken it, only the queue knows. */
  private describeRunning(id: string): string {
    const { reads } = this.nodes.get(id) ?? {};
    return reads
      ? `- running, or waits for a worker that has dataset ${reads.join(' and ')}: \`${id}\``
      : `- running: \`${id}\``;
  }

  /** Empty lines around it: Markdown takes it for a paragraph otherwise. */
  private describeSteps(running: readonly string[]): string[] {
    const { states } = this.schedule;
    if (states.size === 0) return [];
    const runs = new Set(running);
    return ['', stepTable(states, (id) => runs.has(id)), ''];
  }

  private describeApprovals(): string[] {
    const { waiting, given } = this.approvals;
    const asked = (): string =>
      `**Waits for approval** of ${describeApproval(waiting!)}: \`epsilonflow approve ${this.run.name}/${this.run.number} --reason ...\``;
    const lines = given.map(
      ({ author, reason, time, ...awaited }) =>
        `- approved by ${author} at ${new Date(time).toISOString()}: ${describeApproval(awaited)}: ${reason}`,
    );
    return [...(waiting ? [asked()] : []), ...lines];
  }

  status(): Omit<ExperimentStatus, 'children'> {
    const { waiting, ready, running: given } = this.schedule.counts;
    const running = this.underWay();
    const left = waiting + ready + given - running.length;
    return {
      ...this.result(),
      phase: this.phase,
      running: running.slice(0, 50),
      waiting: left,
      awaiting: this.approvals.waiting,
    };
  }
}
