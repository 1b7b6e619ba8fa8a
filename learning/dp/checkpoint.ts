/**
 * @file Checkpoints of training: one file, complete or absent. Holds what the next step depends on, the mechanism and
 * microbatch layout under which it was made, and a digest of all that.
 */

import { createHash } from 'node:crypto';
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

/** What is asked of a checkpoint: to be of these parameters, and of a step of the schedule. */
export interface Training {
  parameters: readonly NamedParameter[];
  /** Of the whole schedule. */
  steps: number;
}

const fileIn = (directory: string): string => join(directory, 'training.safetensors');
const parts = ['values', 'first', 'second'] as const;

/** sha256 over all that a checkpoint holds. */
function digestOf(tensors: HostTensors, step: string, identity: string): string {
  const hash = createHash('sha256').update(JSON.stringify({ step, identity }));
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    hash.update(JSON.stringify({ name, shape }));
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex');
}

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
  const stated = { step: String(state.step), identity: JSON.stringify(identity) };
  try {
    await writeSafetensors(draft, tensors, { ...stated, sha256: digestOf(tensors, stated.step, stated.identity) });
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

/** What a file holds; null where it is missing or damaged. */
async function readWhole(file: string): Promise<{ tensors: HostTensors; step: string; identity: string } | null> {
  const found = await readSafetensorsFile(file).catch((error: unknown) => {
    // What a spoilt header makes of the reader is damage too, unlike what the disk says.
    if ((error as NodeJS.ErrnoException).syscall === undefined) return null;
    throw error;
  });
  if (!found) return null;
  const { tensors, metadata } = found;
  const { step, identity, sha256 } = metadata;
  if (step === undefined || identity === undefined || sha256 !== digestOf(tensors, step, identity)) return null;
  return { tensors, step, identity };
}

/** The state in a whole file; null where it is not of this training. */
function stateIn(tensors: HostTensors, step: number, { parameters, steps }: Training): TrainingState | null {
  if (!Number.isSafeInteger(step) || step < 0 || step > steps) return null;
  const state: TrainingState = { step, values: {}, first: {}, second: {} };
  for (const part of parts) {
    for (const { name, shape } of parameters) {
      const tensor = tensors[`${part}/${name}`];
      if (tensor?.shape.join() !== shape.join()) return null;
      state[part][name] = tensor.values;
    }
  }
  return state;
}

/**
 * The state to go on from, or null when there is none. A damaged file counts as none, and so does one of other shapes or
 * of a step beyond the schedule: training starts over and repeats the same steps, which releases nothing new if they are
 * computed as before, and else is charged. Without DP, where nothing is charged, that of another step or base is none too.
 *
 * @throws EpsilonflowError MECHANISM_MISMATCH with DP, when the checkpoint belongs to another mechanism, step or base: all
 *   of its steps are charged, and none of them could be used.
 */
export async function readCheckpoint(
  directory: string,
  training: Training,
  identity: CheckpointIdentity,
): Promise<(TrainingState & Layout) | null> {
  const found = await readWhole(fileIn(directory));
  if (!found) return null;
  const stored = JSON.parse(found.identity) as CheckpointIdentity & Layout;
  const isCharged = stored.mechanismDigest !== null || identity.mechanismDigest !== null;
  if (stored.mechanismDigest !== identity.mechanismDigest || stored.nodeKey !== identity.nodeKey) {
    if (!isCharged) return null;
    throw new EpsilonflowError(
      'MECHANISM_MISMATCH',
      'The checkpoint was made under another mechanism or for another step.',
      {
        hint: 'A reservation covers one mechanism. Run the step anew, as a new ledger entry.',
      },
    );
  }
  if (stored.base !== identity.base) {
    if (!isCharged) return null;
    throw new EpsilonflowError('MECHANISM_MISMATCH', 'The checkpoint was made with another base model.', {
      hint: 'Put the base model back, or run the step anew, as a new ledger entry.',
    });
  }
  const { layout } = stored;
  const state = stateIn(found.tensors, Number(found.step), training);
  return state && isLayout(layout) ? { ...state, layout } : null;
}
