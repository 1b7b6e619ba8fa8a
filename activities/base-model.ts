/** @file The base model of a step: one that the spec names, or the result of a pre-training step. */

import { checkModelUnchanged, modelDigest } from '../learning/formats/model-digest.ts';
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

/** Digest of a base model's numbers themselves: two results under one content key may differ in their last bits. */
export const contentOf = ({ path, digest, isMade }: BaseModel): Promise<string> | string =>
  isMade ? modelDigest(path) : digest;

/**
 * Checks that texts fit a model: XLA clamps token ids and positions that are out of range instead of failing.
 *
 * @param asked tokens of a text, and positions of a prompt in front of it
 * @throws EpsilonflowError MODEL_INVALID, MODEL_UNFIT
 */
export function checkFit(
  { vocab, context }: { vocab: number; context: number },
  vocabulary: number,
  asked: { sequence: number; prompt: number },
): void {
  if (vocabulary > vocab) {
    const sizes = `${vocabulary} tokens, the model ${vocab}`;
    throw new EpsilonflowError('MODEL_INVALID', `Tokenizer and model do not belong together: it has ${sizes}.`);
  }
  const { sequence, prompt } = asked;
  if (prompt + sequence <= context) return;
  const longest = prompt > 0 ? `A prompt of ${prompt} and sequence ${sequence} exceed` : `sequence ${sequence} exceeds`;
  throw new EpsilonflowError('MODEL_UNFIT', `${longest} the model's ${context} positions.`, {
    hint: 'Lower `sequence` of the step.',
  });
}
