/**
 * @file Runs that were started before children reported by signal: all of their steps are activities and children of
 * one history. Nothing starts like this any more; it goes when no such run is open.
 */

import { condition, executeChild, ParentClosePolicy, workflowInfo } from '@temporalio/workflow';
import type {
  PlannedNode,
  PlanSlice,
  ReservedBudget,
  StepEnd,
  StepOutcome,
  StepReceipt,
} from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { control, reading } from './control.ts';
import { ExperimentRun } from './experiment-run.ts';
import { workflowFailure } from './failures.ts';
import { acceptReceipts, admit } from './guard.ts';
import type { privateStep } from './private-step.ts';
import { endOf } from './step-end.ts';
import { runStep } from './steps.ts';

/** Pending activities and children. */
const mostInFlight = 500;

interface Settlement {
  end: StepEnd;
  ledgerHead: KnownHead | null;
}

export class OneHistory extends ExperimentRun {
  private readonly settlements: Settlement[] = [];
  private inFlight = 0;

  protected readSlice(from: number): Promise<PlanSlice> {
    return reading.readPlanSlice(this.run.planDigest, from);
  }

  protected async reserve(nodeIds: string[]): Promise<void> {
    const reserved: ReservedBudget | StepReceipt[] = await control.reserveBudget(this.run, nodeIds, this.ledgerHead);
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
        this.ledgerHead = next.ledgerHead ?? this.ledgerHead;
        await this.note(this.settle(next.end));
      }
      if (this.failFast && this.failures.length > 0) this.work.cancel();
      this.publishSoon();
    }
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
        ({ ledgerHead }) => ({ end: endOf(node.id), ledgerHead }),
        (error: unknown) => ({ end: endOf(node.id, error), ledgerHead: null }),
      );
    const { run, ledgerHead } = this;
    if (node.charges.length === 0) {
      return within(() => runStep(node, { run, nodeId: node.id, receipts: [], ledgerHead: null }));
    }
    const admission = admit(this.guard, node);
    if (!admission.admitted) {
      const error = workflowFailure('RECEIPT_INVALID', `Not started: ${admission.reason}.`);
      return Promise.resolve({ end: endOf(node.id, error), ledgerHead: null });
    }
    this.guard = admission.guard;
    return within(() =>
      executeChild<typeof privateStep>('privateStep', {
        args: [{ run, node, receipts: admission.receipts, ledgerHead }],
        workflowId: `${workflowInfo().workflowId}/${node.slug}`,
        staticSummary: node.id,
        parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      }),
    );
  }

  protected underWay(): string[] {
    const running: string[] = [];
    for (const [id, state] of this.schedule.states) if (state === 'running') running.push(id);
    return running;
  }
}
