/** @file All activities of a worker, by the names that workflows call them by. */

import type { ControlActivities, StepActivities } from './contract.ts';
import { createBudgetActivities } from './budget.ts';
import { errorScopes } from './error-scope.ts';
import { withMappedErrors } from './errors.ts';
import { createPlanReading } from './plan-slices.ts';
import { createRunRecording } from './run-record.ts';
import { createStepActivities } from './run-step.ts';
import { scheduling } from './scheduled-run.ts';
import type { WorkerParts } from './worker-parts.ts';
import { workflowStates } from './workflow-states.ts';

export function createActivities(parts: WorkerParts): ControlActivities & StepActivities {
  const activities = {
    ...createPlanReading(parts),
    ...createBudgetActivities(parts),
    ...createRunRecording(parts),
    ...scheduling,
    ...workflowStates,
    ...createStepActivities(parts),
  };
  return withMappedErrors(activities, errorScopes(parts));
}
