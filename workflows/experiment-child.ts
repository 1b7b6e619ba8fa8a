/**
 * @file A child's side of an experiment: it tells by signal what became of its steps, so that the experiment may
 * continue as new meanwhile, and stops them when the experiment is there no more.
 */

import {
  CancellationScope,
  condition,
  defineSignal,
  getExternalWorkflowHandle,
  setCurrentDetails,
  setHandler,
  sleep,
} from '@temporalio/workflow';
import type { ExperimentTie, RunIdentity, StepEnd, StepReport } from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { control } from './control.ts';
import { Pause, pausedSignal } from './pause.ts';
import { laterHead } from './step-end.ts';

export const stepsEndedSignal = defineSignal<[StepReport]>('stepsEnded');

/** How long what has ended waits for more to be told with it, milliseconds. */
const gatherFor = 1000;

export class ExperimentChild {
  readonly pause = new Pause();
  private readonly run: RunIdentity;
  private readonly tie: ExperimentTie;
  private readonly work = new CancellationScope();
  /** Nodes that have not ended. */
  private left: number;
  private untold: StepEnd[] = [];
  private ledgerHead: KnownHead | null = null;
  private telling: Promise<void> | null = null;

  constructor(run: RunIdentity, tie: ExperimentTie, nodes: number) {
    this.run = run;
    this.tie = tie;
    this.left = nodes;
    setHandler(pausedSignal, (paused) => {
      this.pause.set(paused);
      setCurrentDetails(paused ? `Paused: \`epsilonflow resume ${run.name}/${run.number}\` goes on.` : '');
    });
  }

  /** Does the child's work; it is cancelled with the child, and when the experiment has ended without it. */
  async whileItRuns<T>(work: () => Promise<T>): Promise<T> {
    const watching = new CancellationScope();
    void watching.run(() => this.watch()).catch(() => undefined);
    try {
      return await this.work.run(work);
    } finally {
      watching.cancel();
    }
  }

  private async watch(): Promise<void> {
    const { workflowId } = this.run;
    do await sleep(this.tie.lookEvery, { summary: 'Look whether the run goes on' });
    while ((await control.findEnded(this.run, [workflowId])).length === 0);
    this.work.cancel();
  }

  /** What ends soon after one another goes into one report. */
  tell(end: StepEnd, ledgerHead: KnownHead | null = null): void {
    this.left -= 1;
    this.untold.push(end);
    this.ledgerHead = laterHead(this.ledgerHead, ledgerHead);
    this.telling ??= CancellationScope.nonCancellable(() => this.report());
  }

  /** Resolves when the experiment has been told everything, or is there no more. */
  async told(): Promise<void> {
    await CancellationScope.nonCancellable(async () => this.telling);
  }

  private async report(): Promise<void> {
    const experiment = getExternalWorkflowHandle(this.run.workflowId);
    while (this.untold.length > 0) {
      if (this.left > 0) await condition(() => this.left === 0, gatherFor);
      const report = { child: this.tie.child, ends: this.untold, ledgerHead: this.ledgerHead };
      this.untold = [];
      try {
        await experiment.signal(stepsEndedSignal, report);
      } catch {
        // Whoever terminated the experiment wants no more of it.
        this.work.cancel();
      }
    }
    this.telling = null;
  }
}
