/**
 * @file Checkpoints of DP training: one file, complete or absent. Holds what the next step depends on, and the
 * mechanism and microbatch layout under which it was made.
 */

import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { EpsilonflowError } from '../../schemas/errors.ts';
import { failpoint } from '../../schemas/failpoints.ts';
import type { TrainedValues } from '../tuning/parameters.ts';
import { readSafetensorsFile, writeSafetensors, type HostTensors } from '../formats/safetensors.ts';
import type { OptimiserState } from './optimisers.ts';
import type { MicrobatchShape } from './sequences.ts';

/** What the next step starts from. */
export interface TrainingState extends OptimiserState {
  values: TrainedValues;
  /** Steps done. */
  step: number;
}

/** A trained parameter, as far as storing it goes. */
export interface NamedParameter {
  name: string;
  shape: number[];
}

/** What a checkpoint must agree with. */
export interface CheckpointIdentity {
  nodeKey: string;
  /** Digest of dataset, delta and mechanism; null without DP. */
  mechanismDigest: string | null;
  /** Digest of the numbers that training reads and does not change; null where there are none. */
  base: string | null;
}

/** How logical batches are cut: sums depend on it in their last bits, and so does the noise of a repeated step. */
interface Layout {
  layout: readonly MicrobatchShape[];
}

const fileIn = (directory: string): string => join(directory, 'training.safetensors');
const parts = ['values', 'first', 'second'] as const;

async function flush(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes a checkpoint; the former one stays in place until the new one is on disk.
 *
 * @param allowed called when the file is complete and not yet visible; throws to keep it so.
 */
export async function writeCheckpoint(
  directory: string,
  parameters: readonly NamedParameter[],
  state: TrainingState,
  identity: CheckpointIdentity & Layout,
  allowed: () => Promise<void>,
): Promise<void> {
  const tensors: HostTensors = {};
  for (const part of parts) {
    for (const { name, shape } of parameters) {
      tensors[`${part}/${name}`] = { shape, values: state[part][name] as Float32Array };
    }
  }
  const draft = `${fileIn(directory)}.${process.pid}.draft`;
  try {
    await writeSafetensors(draft, tensors, { step: String(state.step), identity: JSON.stringify(identity) });
    await flush(draft);
    failpoint('checkpoint: drafted');
    await allowed();
    await rename(draft, fileIn(directory));
    failpoint('checkpoint: renamed');
    await flush(directory);
  } finally {
    await rm(draft, { force: true });
  }
}

const isLayout = (value: unknown): value is readonly MicrobatchShape[] =>
  Array.isArray(value) &&
  value.every((shape: Partial<MicrobatchShape> | null) =>
    [shape?.rows, shape?.time].every((size) => Number.isSafeInteger(size) && size! > 0),
  );

/**
 * The state to go on from, or null when there is none. A damaged file counts as none: training starts over and repeats
 * the same steps, which releases nothing new if they are computed as before.
 *
 * @throws EpsilonflowError MECHANISM_MISMATCH when the checkpoint belongs to another mechanism or step, or with DP to
 *   another base: all of its steps are charged, and none of them could be used.
 */
export async function readCheckpoint(
  directory: string,
  parameters: readonly NamedParameter[],
  identity: CheckpointIdentity,
): Promise<(TrainingState & Layout) | null> {
  const found = await readSafetensorsFile(fileIn(directory)).catch((error: unknown) => {
    if (error instanceof EpsilonflowError && error.code === 'MODEL_INVALID') return null;
    throw error;
  });
  if (!found) return null;
  const stored = JSON.parse(found.metadata['identity'] ?? 'null') as (CheckpointIdentity & Layout) | null;
  if (stored?.mechanismDigest !== identity.mechanismDigest || stored.nodeKey !== identity.nodeKey) {
    throw new EpsilonflowError(
      'MECHANISM_MISMATCH',
      'The checkpoint was made under another mechanism or for another step.',
      {
        hint: 'A reservation covers one mechanism. Run the step anew, as a new ledger entry.',
      },
    );
  }
  if (stored.base !== identity.base) {
    if (identity.mechanismDigest === null) return null;
    throw new EpsilonflowError('MECHANISM_MISMATCH', 'The checkpoint was made with another base model.', {
      hint: 'Put the base model back, or run the step anew, as a new ledger entry.',
    });
  }
  const { layout } = stored;
  if (!isLayout(layout)) return null;
  const state: TrainingState & Layout = {
    ...{ step: Number(found.metadata['step']), layout },
    ...{ values: {}, first: {}, second: {} },
  };
  for (const part of parts) {
    for (const { name } of parameters) {
      const tensor = found.tensors[`${part}/${name}`];
      if (!tensor) return null;
      state[part][name] = tensor.values;
    }
  }
  return state;
}
