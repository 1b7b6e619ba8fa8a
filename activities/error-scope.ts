/**
 * @file What the errors of an activity may say outside: those of a node as its plan says, those of a whole run as its
 * most sensitive dataset says, and nothing where no plan says anything.
 */

import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { lineageOf } from '../schemas/lineage.ts';
import type { Plan } from '../schemas/plan.ts';
import { statePaths } from '../stack/paths.ts';
import { makePrivateFolder } from '../store/disk.ts';
import { doorOf, failureDoor } from '../tracking/door.ts';
import type { RunIdentity, ScheduledSpec, StepRequest } from './contract.ts';
import { wholeIn, type ErrorScope } from './errors.ts';
import { openStepLog } from './step-log.ts';
import type { WorkerParts } from './worker-parts.ts';

/** Whole errors of activities that belong to no single instance. */
const activityLog = (): string => join(statePaths.privateStore(), 'activities.log');

/** First argument of an activity: digest of a plan, a run, or a step of one; of a schedule, which has no plan. */
type Subject = string | RunIdentity | StepRequest | ScheduledSpec;

/** @returns for an activity's name and arguments, the scope of what it threw */
export const errorScopes =
  ({ store }: Pick<WorkerParts, 'store'>) =>
  async (activity: string, [first]: readonly unknown[]): Promise<ErrorScope> => {
    const subject = first as Subject;
    const request = typeof subject === 'object' && 'nodeId' in subject ? subject : null;
    const run = request?.run ?? (subject as Exclude<Subject, StepRequest>);
    const digest = typeof run === 'string' ? run : 'planDigest' in run ? run.planDigest : null;
    const plan = digest === null ? null : await store.loadPlan(digest).catch(() => null);
    const node = plan && request ? lineageOf(plan).node(request.nodeId) : undefined;
    const openLog = node && request ? () => openStepLog(request.run, node) : openActivityLog;
    return {
      failure:
        plan && node
          ? doorOf(plan, node).failure
          : // What is done for a whole run reads no model that a step made.
            failureDoor({ isPrivate: plan === null || hasPrivate(plan), isShut: false }),
      keep: async (error) => {
        try {
          const file = await openLog();
          const subjectName = request?.nodeId ?? digest?.slice(0, 12) ?? '';
          const text = `${new Date().toISOString()} ${activity} ${subjectName}: ${inspect(error, { depth: 8 })}\n`;
          await appendFile(file, text, { mode: 0o600 });
          return wholeIn(file);
        } catch {
          return "The whole error could not be kept on the worker's host: is its disk full, or read-only?";
        }
      },
    };
  };

const hasPrivate = ({ datasets }: Plan): boolean =>
  Object.values(datasets).some(({ sensitivity }) => sensitivity === 'private');

async function openActivityLog(): Promise<string> {
  await makePrivateFolder(statePaths.privateStore());
  return activityLog();
}
