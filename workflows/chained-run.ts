/**
 * @file A run of any size: its steps run in children that report by signal, so that it may continue as new at any time,
 * with training in flight. A new run of the workflow takes over with a letter a node and the children that are open.
 */

import { condition, sleep, workflowInfo } from '@temporalio/workflow';
import type {
  CarriedRun,
  ExperimentStatus,
  PlannedNode,
  PlanSlice,
  RunIdentity,
  RunLimits,
  StepReport,
} from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { Approvals } from './approvals.ts';
import { Children } from './children.ts';
import { control } from './control.ts';
import { ExperimentRun } from './experiment-run.ts';
import { workflowFailure } from './failures.ts';
import { acceptReceipts, admit, type Guard } from './guard.ts';
import { Places, withOwnPlaces } from './limits.ts';
import { encodeStates, restoreSchedule, takeTogether } from './scheduler.ts';
import { laterHead } from './step-end.ts';

/** Bytes that a history may grow by; with the plan that it begins with it stays below Temporal's warning, 10 MB. */
const mostBytes = 4 * 1024 * 1024;

export class ChainedRun extends ExperimentRun {
  private readonly limits: RunLimits;
  private readonly children: Children;
  private nextLook: number;
  private hasStopped = false;
  private start = { events: 0, bytes: 0 };

  constructor(run: RunIdentity, ledgerHead: KnownHead | null, limits: RunLimits, carried: CarriedRun | null) {
    super(run, ledgerHead);
    this.limits = limits;
    this.children = new Children(run, limits, carried);
    this.nextLook = carried?.nextLook ?? Date.now() + limits.lookEvery;
    if (!carried) return;
    this.phase = 'running';
    this.reused = carried.reused;
    this.failures = carried.failures;
    this.isPaused = carried.paused ?? false;
    this.approvals = new Approvals(carried);
    // Until the plan is read again: enough for the status.
    const unnamed = Array.from(carried.states, (_, index) => ({ id: `${index}`, key: `${index}`, needs: [] }));
    this.schedule = restoreSchedule(unnamed, carried.states);
  }

  hear(report: StepReport): void {
    this.children.hear(report);
  }

  /** @returns whether that changes anything */
  setPaused(paused: boolean): boolean {
    const changes = this.isPaused !== paused && this.phase !== 'finishing' && this.phase !== 'done';
    if (changes) this.isPaused = paused;
    return changes;
  }

  knownHead(): KnownHead | null {
    return this.ledgerHead;
  }

  async resume({ states }: CarriedRun): Promise<void> {
    try {
      await this.readPlan();
    } catch (error) {
      await this.children.cancel();
      throw error;
    }
    this.schedule = restoreSchedule([...this.nodes.values()], states);
  }

  /** Not local: the plan of a large experiment would not fit into one answer to Temporal. */
  protected readSlice(from: number): Promise<PlanSlice> {
    return control.readPlanSlice(this.run.planDigest, from);
  }

  protected async reserve(nodeIds: string[]): Promise<void> {
    this.ledgerHead = await control.reservePlan(this.run, nodeIds, this.ledgerHead);
  }

  /** @returns what to continue as new with; null when everything has ended */
  async execute(): Promise<CarriedRun | null> {
    this.phase = 'running';
    const { historyLength, historySize } = workflowInfo();
    this.start = { events: historyLength, bytes: historySize };
    void this.lookAfterChildren();
    for (;;) {
      if (this.failFast && this.failures.length > 0) this.work.cancel();
      if (this.mustStop()) await this.stop();
      if (this.isPaused !== this.children.arePaused) await this.passPauseOn();
      if (this.approvals.hasUnrecorded()) await this.recordApprovals();
      if (!this.isPaused) await this.startReady();
      if (this.holdBack()) await control.recordAwaited(this.run, this.approvals.waiting!);
      this.describe();
      const { running, ready } = this.schedule.counts;
      // What is ready and does not start waits for a person.
      if (running + ready === 0) return null;
      await condition(() => this.hasNews() || this.isWorn());
      await this.settleEnded();
      // From the last of the reports on nothing is awaited: what comes after it, Temporal hands to the next run.
      if (this.isWorn()) return this.carried();
      this.publishSoon();
    }
  }

  private hasNews(): boolean {
    const isTold = this.isPaused !== this.children.arePaused || this.approvals.hasUnrecorded();
    return this.children.ended.length > 0 || this.mustStop() || isTold;
  }

  /** Whether the step of a node waits for approval. */
  private isHeld(id: string): boolean {
    const { approval } = this.nodes.get(id)!;
    return approval !== undefined && !this.approvals.isStepApproved(approval);
  }

  /** Whether something new waits for approval. */
  private holdBack(): boolean {
    const held = [...this.schedule.ready].filter((id) => this.isHeld(id));
    const steps = [...new Set(held.map((id) => this.nodes.get(id)!.approval!))];
    return this.approvals.wait({ steps });
  }

  private async passPauseOn(): Promise<void> {
    const { isPaused } = this;
    await this.children.setPaused(isPaused);
    await control.recordPause(this.run, isPaused);
  }

  private mustStop(): boolean {
    return this.work.consideredCancelled && !this.hasStopped;
  }

  private async stop(): Promise<void> {
    this.hasStopped = true;
    await this.halt(this.haltReason());
    await this.children.cancel();
  }

  private async settleEnded(): Promise<void> {
    const { ended } = this.children;
    while (ended.length > 0) {
      this.ledgerHead = laterHead(this.ledgerHead, this.children.ledgerHead);
      await this.note(ended.splice(0).flatMap((end) => this.settle(end)));
    }
  }

  /** A tracker that takes long is waited for, but not for ever. */
  private isWorn(): boolean {
    // Soon at its end, and a request to cancel is not handed on.
    if (this.work.consideredCancelled) return false;
    const { historyLength, historySize, continueAsNewSuggested } = workflowInfo();
    const events = (historyLength - this.start.events) / this.limits.events;
    const wear = Math.max(events, (historySize - this.start.bytes) / mostBytes);
    // Temporal may suggest it for a plan that is large from the start: each run must get something done.
    return wear >= (this.publishing ? 2 : continueAsNewSuggested ? 0.25 : 1);
  }

  private carried(): CarriedRun {
    return {
      ...this.children.carried(),
      states: encodeStates(this.schedule),
      reused: this.reused,
      failures: this.failures.slice(0, 20),
      nextLook: this.nextLook,
      paused: this.isPaused,
      ...this.approvals.carried(),
    };
  }

  private async startReady(): Promise<void> {
    const starts: Promise<void>[] = [];
    for (;;) {
      await this.takeOverTwins();
      const room = this.limits.inFlight - this.schedule.counts.running;
      const free = this.nextFree();
      const paid = this.nextPaid(room);
      // A whole batch or all that is there: single ones would cost a child each.
      const isFree = free.length > 0 && free.length <= room;
      if (isFree) starts.push(this.children.startBatch(this.begin(free)));
      else if (paid.length > 0) {
        const started = this.startPaid(this.begin(paid));
        starts.push(started);
        if (paid.length < this.limits.paidTogether) continue;
        await started;
        if (this.mustStop() || this.isPaused) break;
      } else break;
    }
    // A child that has not started yet would be lost by continuing as new, and cannot be cancelled.
    await Promise.all(starts);
  }

  private isPaid(id: string): boolean {
    return this.nodes.get(id)!.charges.length > 0;
  }

  /** Nodes that spend no privacy and hang together, or are ready alike: as many as one child is given. */
  private nextFree(): readonly string[] {
    const { limits, schedule, nodes } = this;
    const takes = (id: string): boolean => !this.isPaid(id) && !this.isHeld(id);
    if (limits.ownPlaces) return withOwnPlaces(takeTogether(schedule, limits.batch, takes), limits, schedule, nodes);
    const places = new Places(limits, schedule, nodes);
    return takeTogether(schedule, limits.batch, takes, (id, before) => places.take(id, before));
  }

  private nextPaid(room: number): readonly string[] {
    const { limits, schedule, nodes } = this;
    const ready = [...schedule.ready].filter((id) => this.isPaid(id) && !this.isHeld(id));
    if (limits.ownPlaces) {
      return withOwnPlaces(ready.slice(0, room), limits, schedule, nodes).slice(0, limits.paidTogether);
    }
    const places = new Places(limits, schedule, nodes);
    return ready.filter((id) => places.take(id, null)).slice(0, Math.min(room, limits.paidTogether));
  }

  private begin(ids: readonly string[]): PlannedNode[] {
    return ids.map((id) => {
      this.apply({ type: this.schedule.ready.has(id) ? 'started' : 'joined', id });
      return this.nodes.get(id)!;
    });
  }

  private async takeOverTwins(): Promise<void> {
    if (this.schedule.twins.size === 0) return;
    const twins = (): string[] => [...this.schedule.ready].filter((id) => this.schedule.twins.has(id));
    // Taking over a twin may make more of them ready.
    for (let ready = twins(); ready.length > 0; ready = twins()) {
      await control.recordReused(this.run, ready);
      for (const id of ready) this.takeOver(id);
    }
  }

  private async startPaid(nodes: readonly PlannedNode[]): Promise<void> {
    try {
      const ids = nodes.map(({ id }) => id);
      const receipts = await control.readReceipts(this.run, ids, this.ledgerHead);
      const fresh = { ...this.guard, receipts: new Map() };
      const accepted = acceptReceipts(fresh, this.run.workflowId, receipts);
      if (!accepted.accepted)
        throw workflowFailure('RECEIPT_INVALID', `The ledger's answer does not fit: ${accepted.reason}.`);
      await Promise.all(nodes.map((node) => this.startAdmitted(node, accepted.guard)));
    } catch (error) {
      this.children.refuse(nodes, error);
    }
  }

  private async startAdmitted(node: PlannedNode, guard: Guard): Promise<void> {
    const admission = admit(guard, node);
    if (admission.admitted) {
      return this.children.startPrivate({ node, receipts: admission.receipts, ledgerHead: this.ledgerHead });
    }
    this.children.refuse([node], workflowFailure('RECEIPT_INVALID', `Not started: ${admission.reason}.`));
  }

  /** Goes on until the run of the workflow ends. */
  private async lookAfterChildren(): Promise<void> {
    for (;;) {
      await sleep(Math.max(1, this.nextLook - Date.now()), { summary: 'Look after children that are silent' });
      this.nextLook = Date.now() + this.limits.lookEvery;
      // Asked again at the next time.
      await this.children.lookAfter().catch(() => undefined);
    }
  }

  private phaseNow({ phase, awaiting }: Pick<ExperimentStatus, 'phase' | 'awaiting'>): ExperimentStatus['phase'] {
    if (phase !== 'starting' && phase !== 'running') return phase;
    if (phase === 'running' && this.isPaused) return this.children.arePaused ? 'paused' : 'pausing';
    return awaiting !== null && this.schedule.counts.running === 0 ? 'waiting' : phase;
  }

  override status(): ExperimentStatus {
    const status = super.status();
    return { ...status, phase: this.phaseNow(status), children: this.children.ids() };
  }

  protected underWay(): string[] {
    const { missing } = this.schedule;
    return this.children.nodes().filter((id) => !missing.get(id));
  }
}
