/**
 * @file A firing of a schedule: compiles the spec anew, and runs it as a run like any other. It goes on for as long as
 * the run does, so that Temporal knows when firings overlap.
 */

import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { executeChild, ParentClosePolicy, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { ExperimentResult, ScheduledSpec } from '../activities/contract.ts';
import { compilingIn } from './control.ts';
import type { experimentWorkflow } from './experiment.ts';

/** @returns null when a run of the same plan was under way */
export async function scheduledRun(spec: ScheduledSpec): Promise<ExperimentResult | null> {
  const prepared = await compilingIn(spec.folder).prepareFiring(spec, workflowInfo().workflowId);
  if ('underWay' in prepared) {
    setCurrentDetails(`**${prepared.underWay}** of the same plan was under way: nothing was started.`);
    return null;
  }
  const { run, ledgerHead, limits, options } = prepared;
  setCurrentDetails(`Started **${run.name}/${run.number}**`);
  try {
    return await executeChild<typeof experimentWorkflow>('experimentWorkflow', {
      ...options,
      args: [run, ledgerHead, limits],
      parentClosePolicy: ParentClosePolicy.ABANDON,
    });
  } catch (error) {
    // By someone who ran the same spec meanwhile.
    if (error instanceof WorkflowExecutionAlreadyStartedError) return null;
    throw error;
  }
}
