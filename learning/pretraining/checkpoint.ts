/** @file Checkpoints of pre-training: weights, Adam's moments and the step, in a folder that appears whole or not at all. */

import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { TrainingState } from '../decoder/training.ts';
import { toHost, toTensors } from '../formats/model-folder.ts';
import { readSafetensors, writeSafetensors, type HostTensors } from '../formats/safetensors.ts';

export interface PretrainingCheckpoint {
  /** Steps done. */
  step: number;
  state: TrainingState;
}

const groups = ['weights', 'firstMoment', 'secondMoment'] as const;
const folderPattern = /^step-(\d+)$/;

/** Writes a checkpoint and removes the earlier ones. `owner` says whose it is; only that owner will read it. */
export async function saveCheckpoint(
  directory: string,
  owner: string,
  checkpoint: PretrainingCheckpoint,
): Promise<void> {
  const folder = join(directory, `step-${checkpoint.step}`);
  const draft = `${folder}.${process.pid}.draft`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true });
  const tensors: HostTensors = {};
  for (const group of groups) {
    for (const [name, tensor] of Object.entries(toHost(checkpoint.state[group]))) tensors[`${group}/${name}`] = tensor;
  }
  await writeSafetensors(join(draft, 'state.safetensors'), tensors);
  await writeFile(join(draft, 'progress.json'), JSON.stringify({ owner, step: checkpoint.step }));
  await rm(folder, { recursive: true, force: true });
  await rename(draft, folder);
  for (const name of await readdir(directory)) {
    const step = folderPattern.exec(name)?.[1];
    if (step !== undefined && Number(step) < checkpoint.step) await rm(join(directory, name), { recursive: true });
  }
}

/** The newest checkpoint of this owner, or null. */
export async function loadCheckpoint(directory: string, owner: string): Promise<PretrainingCheckpoint | null> {
  const names = await readdir(directory).catch(() => []);
  const steps = names.flatMap((name) => folderPattern.exec(name)?.[1] ?? []).map(Number);
  for (const step of steps.sort((a, b) => b - a)) {
    const folder = join(directory, `step-${step}`);
    const progress = JSON.parse(await readFile(join(folder, 'progress.json'), 'utf8')) as { owner: string };
    if (progress.owner !== owner) continue;
    const state: TrainingState = { weights: {}, firstMoment: {}, secondMoment: {} };
    for (const [path, tensor] of Object.entries(toTensors(await readSafetensors(join(folder, 'state.safetensors'))))) {
      const [group, name] = path.split('/') as [(typeof groups)[number], string];
      state[group][name] = tensor;
    }
    return { step, state };
  }
  return null;
}
