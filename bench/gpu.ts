/**
 * @file The learning engine on an NVIDIA card against the same engine on the machine's processor, each in a process of its
 * own with the same library. Needs a card and its driver; set-up then installs the library for it.
 */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { packageRoot } from '../stack/paths.ts';
import { median, type Bench, type BenchCase, type MeasureOptions } from './bench-case.ts';
import type { GpuWork } from './gpu/device-process.ts';

const file = join(packageRoot, 'bench', 'gpu', 'device-process.ts');

/** No card is visible to CUDA. */
const hidden = { CUDA_VISIBLE_DEVICES: '-1' };

interface Timing {
  isUsingGpuDevice: boolean;
  seconds: number[];
}

async function timing(work: GpuWork, runs: number, environment: Record<string, string>): Promise<Timing> {
  const parameters = ['--import', 'tsx', file, work, String(runs)];
  const env = { ...process.env, ...environment };
  const { stdout } = await promisify(execFile)(process.execPath, parameters, { env, maxBuffer: 1 << 24 });
  return JSON.parse(stdout) as Timing;
}

async function onCard(work: GpuWork, amount: number, { quick, say }: MeasureOptions) {
  const card = await timing(work, quick ? 1 : 10, {});
  if (!card.isUsingGpuDevice) {
    throw new Error(
      'TensorFlow uses no NVIDIA card. Check that nvidia-smi shows one, then run this again: set-up chooses its library.',
    );
  }
  say(`  on the card: ${card.seconds.map((seconds) => seconds.toFixed(3)).join(' ')} s`);
  const processor = await timing(work, quick ? 1 : 3, hidden);
  return { ours: amount / median(card.seconds), peer: amount / median(processor.seconds) };
}

const tokensASecond = {
  ...{ unit: 'tokens/s', better: 'more', peerName: 'this engine on the processor', goal: 1 },
} as const satisfies Partial<BenchCase>;

/** Tokens of one run of each. */
const work: Record<GpuWork, number> = {
  'dp-lora': 32 * 128,
  'dp-full': 32 * 128,
  'dp-lora-smollm2-135m': 8 * 64,
  'sampling-smollm2-135m': 64 * 64,
};

export const gpu: Bench = {
  name: 'gpu',
  cases: Object.entries(work).map(([name, tokens]) => ({
    ...tokensASecond,
    name,
    measure: (options) => onCard(name as GpuWork, tokens, options),
  })),
};
