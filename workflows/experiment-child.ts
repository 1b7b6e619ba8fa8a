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
  workflowInfo,
} from '@temporalio/workflow';
import type { ExperimentTie, RunIdentity, StepEnd, StepReport } from '../activities/contract.ts';
import type { KnownHead } from '../privacy/ledger/ledger.ts';
import { control } from './control.ts';
import { Pause, pausedSignal } from './pause.ts';
import { laterHead } from './step-end.ts';

export const stepsEndedSignal = defineSignal<[StepReport]>('stepsEnded');

/** How long what has ended waits for more to be told with it, unless the tie says otherwise, milliseconds. */
const usualGathering = 1000;

export class ExperimentChild {
  readonly pause: Pause;
  private readonly run: RunIdentity;
  private readonly tie: ExperimentTie;
  private readonly work = new CancellationScope();
  /** Nodes that have not ended. */
  private left: number;
  private untold: StepEnd[] = [];
  private ledgerHead: KnownHead | null = null;
  private telling: Promise<void> | null = null;

  constructor(run: RunIdentity, tie: ExperimentTie, nodes: number, isPaused = false) {
    this.run = run;
    this.pause = new Pause(isPaused);
    this.tie = tie;
    this.left = nodes;
    const show = (paused: boolean): void =>
      setCurrentDetails(paused ? `Paused: \`epsilonflow resume ${run.name}/${run.number}\` goes on.` : '');
    if (isPaused) show(true);
    setHandler(pausedSignal, (paused) => {
      this.pause.set(paused);
      show(paused);
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

  /**
   * Resolves when the history has grown long, all steps are stopped, and everything has been told; never when the child
   * is asked to stop.
   *
   * @param events when a pause has stopped the steps, half as many are enough
   */
  async worn(events: number): Promise<void> {
    const { pause } = this;
    const isWorn = (): boolean => workflowInfo().historyLength > (pause.isPaused ? events / 2 : events);
    const goesOn = (): boolean => this.left > 0 && !this.work.consideredCancelled;
    await CancellationScope.nonCancellable(async () => {
      await condition(() => isWorn() && goesOn());
      pause.hold();
      await condition(() => pause.isIdle && this.telling === null && goesOn());
    });
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
    const { gatherFor = usualGathering } = this.tie;
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
