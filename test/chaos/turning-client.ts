/**
 * @file Experiments that continue as new early, and what a Temporal server tells of them from outside: when children
 * report and when a run turns. Processes are killed at these moments too, which are no statements of ours.
 */

import type { WorkflowClientInterceptor, Client } from '@temporalio/client';
import type { experimentWorkflow } from '../../workflows/index.ts';

/** A child has asked the server to tell its experiment; the server has told it; the run has handed on to the next. */
export const moments = ['report: asked', 'report: heard', 'turn: made'] as const;
export type Moment = (typeof moments)[number];

/** Events after which an experiment continues as new: every private step of it is in flight by then. */
const eventsOfARun = 8;

/** Gives experiments whose names say so a limit of events, for which the command line has no option. */
export const turnEarly: WorkflowClientInterceptor = {
  start(input, next) {
    const { workflowId } = input.options;
    const [run, ledgerHead, limits] = input.options.args as Parameters<typeof experimentWorkflow>;
    const args = [run, ledgerHead, isTurning(workflowId) ? { ...limits, events: eventsOfARun } : limits];
    return next({ ...input, options: { ...input.options, args } });
  },
};

const isTurning = (workflowId: string): boolean => workflowId.startsWith('turning-');

/** Sees moments of experiments as they come. */
export class Moments {
  private readonly client: Client;
  private readonly seen = new Map<Moment, Set<string>>(moments.map((moment) => [moment, new Set()]));

  constructor(client: Client) {
    this.client = client;
  }

  /**
   * @param open experiments that have not ended, with the workflow ids of their children
   * @returns how many of its kind have been seen since the beginning
   */
  async count(moment: Moment, open: readonly { workflowId: string; children: readonly string[] }[]): Promise<number> {
    const seen = this.seen.get(moment)!;
    for (const { workflowId, children } of open) {
      const asked = moment === 'report: asked' ? children : [workflowId];
      for (const id of asked) for (const mark of await this.marks(moment, id)) seen.add(mark);
    }
    return seen.size;
  }

  /** Of the newest run of a workflow; none when it has not started. */
  private async marks(moment: Moment, workflowId: string): Promise<string[]> {
    const history = await this.client.workflow
      .getHandle(workflowId)
      .fetchHistory()
      .catch(() => null);
    const events = history?.events ?? [];
    const start = events[0]?.workflowExecutionStartedEventAttributes;
    const run = `${workflowId} ${start?.originalExecutionRunId}`;
    if (moment === 'turn: made') return start?.continuedExecutionRunId ? [run] : [];
    const told = events.filter((event) =>
      moment === 'report: asked'
        ? event.signalExternalWorkflowExecutionInitiatedEventAttributes
        : event.workflowExecutionSignaledEventAttributes,
    );
    return told.map(({ eventId }) => `${run} ${String(eventId)}`);
  }
}
