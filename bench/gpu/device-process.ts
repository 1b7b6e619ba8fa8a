/**
 * @file Runs one kind of work in a process of its own, whose environment decides what it computes on, and prints as JSON
 * whether that was a card and the seconds of each run after the first, which compiles: device-process.ts WORK RUNS.
 */

import { tf } from '../../learning/tensorflow.ts';
import { linearNames } from '../../learning/decoder/config.ts';
import { loraOn, small, smolLm2, smolLm2Work } from '../learning/models.ts';
import { samplingArm } from '../learning/sampling.ts';
import { madeUpWeights, trainerArm, type TrainingWork } from '../learning/training.ts';
import type { Arm } from '../learning/turns.ts';

export type GpuWork = 'dp-lora' | 'dp-full' | 'dp-lora-smollm2-135m' | 'sampling-smollm2-135m';

const training = ({ config, ...work }: TrainingWork, arithmetic: 'exact' | 'float'): Arm =>
  trainerArm('training', { config, ...work }, madeUpWeights(config), arithmetic, () => undefined);

const smallWork = { config: small, batch: 32, time: 128, rows: 32 };

const texts = { texts: 64, tokens: 64, first: 0 };

const arms: Record<GpuWork, () => Arm> = {
  'dp-lora': () => training({ ...smallWork, tuned: loraOn(linearNames(small)) }, 'exact'),
  'dp-full': () => training({ ...smallWork, tuned: { kind: 'full', classes: 0 } }, 'float'),
  'dp-lora-smollm2-135m': () => training(smolLm2Work, 'exact'),
  'sampling-smollm2-135m': () =>
    samplingArm('sampling', { config: smolLm2, weights: madeUpWeights(smolLm2) }, texts, { calls: 1, block: 4 }),
};

const [work, runs] = process.argv.slice(2) as [GpuWork, string];
const arm = arms[work]();
await arm.run(1);
const seconds: number[] = [];
for (let run = 0; run < Number(runs); run++) seconds.push(...(await arm.run(1)));
const { isUsingGpuDevice } = tf.backend() as unknown as { isUsingGpuDevice: boolean };
process.stdout.write(`${JSON.stringify({ isUsingGpuDevice, seconds })}\n`);
