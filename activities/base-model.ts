/** @file The base model of a step: one that the spec names, or the result of a pre-training step. */

import { checkModelUnchanged } from '../learning/formats/model-digest.ts';
import { EpsilonflowError } from '../schemas/errors.ts';
import type { JobInput } from './job.ts';

export interface BaseModel {
  path: string;
  name: string;
  /** What the plan names it by: a model's digest, or the content key of the step that makes it. */
  digest: string;
  isMade: boolean;
}

/** @throws EpsilonflowError MODEL_INVALID when it has changed since the plan was made */
export async function baseModel({ node, models, artifacts }: JobInput): Promise<BaseModel> {
  const source = node.inputs['model'];
  const model = source && 'model' in source ? models[source.model] : undefined;
  if (model) {
    await checkModelUnchanged(model);
    return { path: model.path, name: model.name, digest: model.digest, isMade: false };
  }
  const artifact = artifacts['model']?.[0];
  if (artifact) return { path: artifact.directory, name: artifact.nodeId, digest: artifact.key, isMade: true };
  throw new EpsilonflowError('STEP_FAILED', `${node.id} has no base model.`);
}
