/** @file Checkpoints of pre-training, whose weights and moments lie on the device: those of training otherwise. */

import { weightShapes, type DecoderConfig } from '../decoder/config.ts';
import type { TensorRecord, TrainingState } from '../decoder/training.ts';
import { readCheckpoint, writeCheckpoint, type NamedParameter } from '../dp/checkpoint.ts';
import { toHost } from '../formats/model-folder.ts';
import { ownedTensor } from '../tensorflow.ts';
import type { TrainedValues } from '../tuning/parameters.ts';

export interface PretrainingCheckpoint {
  /** Steps done. */
  step: number;
  state: TrainingState;
}

/** Whose checkpoints they are and of what; only that owner will read them. */
export interface PretrainingIdentity {
  owner: string;
  config: DecoderConfig;
}

const parametersOf = (config: DecoderConfig): NamedParameter[] =>
  Object.entries(weightShapes(config)).map(([name, shape]) => ({ name, shape }));

const identityOf = (owner: string) => ({ nodeKey: owner, mechanismDigest: null, base: null });

const valuesOf = (tensors: TensorRecord): TrainedValues =>
  Object.fromEntries(Object.entries(toHost(tensors)).map(([name, { values }]) => [name, values]));

/** Writes a checkpoint in the place of the earlier one. @param allowed as that of `writeCheckpoint` */
export async function savePretraining(
  directory: string,
  { owner, config }: PretrainingIdentity,
  { step, state }: PretrainingCheckpoint,
  allowed: () => Promise<void>,
): Promise<void> {
  const host = {
    step,
    values: valuesOf(state.weights),
    first: valuesOf(state.firstMoment),
    second: valuesOf(state.secondMoment),
  };
  await writeCheckpoint(directory, parametersOf(config), host, { ...identityOf(owner), layout: [] }, allowed);
}

/** This owner's checkpoint; null where there is none of this model, or it is damaged. @param steps of the schedule */
export async function loadPretraining(
  directory: string,
  { owner, config }: PretrainingIdentity,
  steps: number,
): Promise<PretrainingCheckpoint | null> {
  const parameters = parametersOf(config);
  const saved = await readCheckpoint(directory, { parameters, steps }, identityOf(owner));
  if (!saved) return null;
  const tensors = (values: TrainedValues): TensorRecord =>
    Object.fromEntries(parameters.map(({ name, shape }) => [name, ownedTensor(values[name] as Float32Array, shape)]));
  const { step, values, first, second } = saved;
  return { step, state: { weights: tensors(values), firstMoment: tensors(first), secondMoment: tensors(second) } };
}
