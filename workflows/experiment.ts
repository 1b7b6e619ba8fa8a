/**
 * @file Interpreter of a plan: reads it by slices, looks up what is there already, reserves the whole envelope, then
 * starts every node as soon as its inputs are there. All decisions are made by the pure scheduler and guard.
 */

import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  defineQuery,
  isCancellation,
  setCurrentDetails,
  setHandler,
  TemporalFailure,
} from '@temporalio/workflow';
import type {
  CachedSlice,
  ExperimentResult,
  ExperimentStatus,
  NodeFailure,
  PlannedNode,
  PlanSlice,
  ReservedBudget,
  RunIdentity,
  SettledNode,
  StepOutcome,
  StepReceipt,
} from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { control, reading, reporting } from './control.ts';
import { describeFailure, workflowFailure } from './failures.ts';
import { acceptReceipts, admit, createGuard, type Guard } from './guard.ts';
import { runPrivateStep } from './private-step.ts';
import { advance, createSchedule, type Schedule, type ScheduleEvent } from './scheduler.ts';
import { runStep } from './steps.ts';

export const statusQuery = defineQuery<ExperimentStatus>('status');

/** Pending activities and children of one workflow; Temporal refuses more than 2000. */
const mostInFlight = 500;

/** How long the tracker may lag behind while a run goes on, milliseconds. */
const publishEvery = 15_000;

type Settlement = { node: PlannedNode; outcome: StepOutcome } | { node: PlannedNode; error: unknown };

/**
 * @param ledgerHead a row that the ledger held when the run was started; null when it spends no privacy
 * @returns what became of the nodes, when all of them completed
 * @throws ApplicationFailure of type STEP_FAILED, details `ExperimentResult`, when some did not; what kept the run from
 *   starting (the ledger's refusal) as it is; CancelledFailure when cancelled
 */
export async function experimentWorkflow(
  run: RunIdentity,
  ledgerHead: KnownHead | null = null,
): Promise<ExperimentResult> {
  const experiment = new Experiment(run, ledgerHead);
  setHandler(statusQuery, () => experiment.status());
  try {
    await experiment.prepare();
    await CancellationScope.nonCancellable(() => experiment.execute());
  } catch (error) {
    experiment.stopBy(error);
  }
  await CancellationScope.nonCancellable(() => experiment.finish());
  return experiment.conclude();
}

class Experiment {
  private readonly run: RunIdentity;
  private readonly nodes = new Map<string, PlannedNode>();
  private failFast = false;
  private schedule: Schedule = createSchedule([]);
  private guard: Guard = createGuard([]);
  private phase: ExperimentStatus['phase'] = 'starting';
  private reused = 0;
  private readonly failures: NodeFailure[] = [];
  /** Cancelled when someone asks for it. */
  private readonly root = CancellationScope.current();
  /** Holds everything that runs: cancelled with the root, or by a failure under `fail-fast`. */
  private readonly work = new CancellationScope();
  private readonly settlements: Settlement[] = [];
  private inFlight = 0;
  private cancelled = false;
  /** Ended the run as a whole, beside its nodes. */
  private fatal: Error | null = null;
  private lastPublished = 0;
  private publishing: Promise<void> | null = null;
  /** Newest row of the ledger that this history holds: whatever asks the ledger for something asks for this row, too. */
  private ledgerHead: KnownHead | null;

  constructor(run: RunIdentity, ledgerHead: KnownHead | null) {
    this.run = run;
    this.ledgerHead = ledgerHead;
  }

  async prepare(): Promise<void> {
    await control.startRun(this.run);
    const { planDigest } = this.run;
    for (let from: number | null = 0; from !== null;) {
      const slice: PlanSlice = await reading.readPlanSlice(planDigest, from);
      this.failFast = slice.failure === 'fail-fast';
      for (const node of slice.nodes) this.nodes.set(node.id, node);
      from = slice.next;
    }
    const all = [...this.nodes.values()];
    this.schedule = createSchedule(all);
    this.guard = createGuard(all);
    for (let from: number | null = 0; from !== null;) {
      const slice: CachedSlice = await reading.findCached(planDigest, from);
      if (slice.cached.length > 0) await control.recordReused(this.run, slice.cached);
      for (const id of slice.cached) this.takeOver(id);
      from = slice.next;
    }
    const planned = [...this.guard.planned.values()];
    const unpaid = planned.filter(({ id }) => this.schedule.states.get(id) !== 'completed').map(({ id }) => id);
    if (unpaid.length === 0) return;
    const reserved: ReservedBudget | StepReceipt[] = await control.reserveBudget(this.run, unpaid, this.ledgerHead);
    // Runs that were under way before heads were handed on have receipts alone in their histories.
    const { receipts, ledgerHead } = Array.isArray(reserved) ? { receipts: reserved, ledgerHead: null } : reserved;
    this.ledgerHead = ledgerHead;
    const accepted = acceptReceipts(this.guard, this.run.workflowId, receipts);
    if (!accepted.accepted)
      throw workflowFailure('RECEIPT_INVALID', `The ledger's answer does not fit: ${accepted.reason}.`);
    this.guard = accepted.guard;
  }

  async execute(): Promise<void> {
    this.phase = 'running';
    for (;;) {
      if (this.work.consideredCancelled) await this.halt(this.haltReason());
      await this.startReady();
      this.describe();
      if (this.inFlight === 0) return;
      await condition(() => this.settlements.length > 0);
      for (let next = this.settlements.shift(); next; next = this.settlements.shift()) {
        this.inFlight -= 1;
        await this.settle(next);
      }
      if (this.failFast && this.failures.length > 0) this.work.cancel();
      this.publishSoon();
    }
  }

  private haltReason(): string {
    return this.root.consideredCancelled
      ? 'the run was cancelled'
      : 'another instance failed, and failure is fail-fast';
  }

  private async startReady(): Promise<void> {
    // Taking over a twin may make more nodes ready: a Set's iteration visits those too.
    for (const id of this.schedule.ready) {
      if (this.inFlight >= mostInFlight) return;
      const node = this.nodes.get(id)!;
      if (this.schedule.twins.has(id)) {
        await control.recordReused(this.run, [id]);
        this.takeOver(id);
        continue;
      }
      this.apply({ type: 'started', id });
      this.inFlight += 1;
      void this.start(node).then((settlement) => this.settlements.push(settlement));
    }
  }

  private start(node: PlannedNode): Promise<Settlement> {
    const within = (work: () => Promise<StepOutcome>): Promise<Settlement> =>
      this.work.run(work).then(
        (outcome) => ({ node, outcome }),
        (error: unknown) => ({ node, error }),
      );
    if (node.charges.length === 0) {
      return within(() => runStep(node, { run: this.run, nodeId: node.id, receipts: [], ledgerHead: null }));
    }
    const admission = admit(this.guard, node);
    if (!admission.admitted) {
      return Promise.resolve({ node, error: workflowFailure('RECEIPT_INVALID', `Not started: ${admission.reason}.`) });
    }
    this.guard = admission.guard;
    const { run, ledgerHead } = this;
    return within(() => runPrivateStep({ run, node, receipts: admission.receipts, ledgerHead }));
  }

  private async settle(settlement: Settlement): Promise<void> {
    const { id } = settlement.node;
    if ('outcome' in settlement) {
      this.ledgerHead = settlement.outcome.ledgerHead ?? this.ledgerHead;
      this.apply({ type: 'completed', id });
      return;
    }
    if (isCancellation(settlement.error)) {
      const skipped = this.apply({ type: 'cancelled', id });
      await control.recordSettled(this.run, [{ end: 'cancelled', node: id }, ...skipped]);
      return;
    }
    const failure = describeFailure(id, settlement.error);
    this.failures.push(failure);
    const skipped = this.apply({ type: 'failed', id });
    const { node, code, message } = failure;
    await control.recordSettled(this.run, [{ end: 'failed', node, code, message }, ...skipped]);
  }

  private apply(event: ScheduleEvent): SettledNode[] {
    const { schedule, skipped } = advance(this.schedule, event);
    this.schedule = schedule;
    return skipped.map(({ node, because }) => ({ end: 'skipped', node, because }));
  }

  /** A node whose result is there already. */
  private takeOver(id: string): void {
    if (this.schedule.states.get(id) === 'completed') return;
    this.apply({ type: 'completed', id });
    this.reused += 1;
  }

  private async halt(because: string): Promise<void> {
    const skipped = this.apply({ type: 'halted', because });
    if (skipped.length > 0) await control.recordSettled(this.run, skipped);
  }

  private publishSoon(): void {
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
    const whole = !this.fatal && !this.cancelled && completed === this.nodes.size;
    return {
      status: this.cancelled ? 'cancelled' : whole ? 'completed' : 'failed',
      nodes: this.nodes.size,
      completed,
      reused: this.reused,
      failed,
      skipped,
      failures: this.failures.slice(0, 20),
    };
  }

  /** What Temporal's page of the workflow shows at its top, Markdown. */
  private describe(): void {
    const { completed, running, failed, skipped } = this.schedule.counts;
    const lines = [
      `**${this.run.name}/${this.run.number}**: ${completed} of ${this.nodes.size} instances done` +
        ` (${this.reused} reused), ${running} running, ${failed} failed, ${skipped} skipped`,
      ...this.status().running.map((id) => `- running: \`${id}\``),
      ...this.failures.slice(0, 20).map(({ node, code, message }) => `- failed: \`${node}\`: ${code}: ${message}`),
    ];
    setCurrentDetails(lines.join('\n'));
  }

  status(): ExperimentStatus {
    const running: string[] = [];
    for (const [id, state] of this.schedule.states) if (state === 'running') running.push(id);
    const { waiting, ready } = this.schedule.counts;
    return { ...this.result(), phase: this.phase, running: running.slice(0, 50), waiting: waiting + ready };
  }
}
