/**
 * @file What decides the last bits of computed numbers beside the program: processor, libraries and their settings.
 *
 * Noise is derived from it too (see `learning/dp/outer-loop.ts`). What is named here needlessly costs at most a few
 * steps that are charged again; what is missing could put the same noise on two sums.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { processor } from './processor.ts';
import { tf } from './tensorflow.ts';

/** Settings by which numeric libraries choose how to compute. */
const settingNames = /^(TF|XLA|ONEDNN|DNNL|OMP|MKL|NVIDIA|CUDA|CUDNN|CUBLAS|CUBLASLT)_/;

/** Where compiled programs are kept: another folder changes no number. */
const cacheFolder = /--tf_xla_persistent_cache_directory=('[^']*'|\S*)/;

/** Models of NVIDIA cards, and the version of their driver. */
function cards(): string[] {
  const folder = '/proc/driver/nvidia';
  try {
    const models = readdirSync(`${folder}/gpus`).map(
      (card) => /^Model:.*$/m.exec(readFileSync(`${folder}/gpus/${card}/information`, 'utf8'))?.[0] ?? '',
    );
    return [readFileSync(`${folder}/version`, 'utf8'), ...models.sort()];
  } catch {
    return [];
  }
}

/** Whether TensorFlow computes on a graphics card. */
export const isOnCard = (): boolean => (tf.backend() as unknown as { isUsingGpuDevice: boolean }).isUsingGpuDevice;

/** Calls of a compiled function that are worth running side by side: one for each core; a card is full with one. */
export const callsAtOnce = (): number => (isOnCard() ? 1 : availableParallelism());

/** A text that is the same only where the same program computes the same numbers. */
export function machine(): string {
  const { binding } = tf.backend() as unknown as { binding: { TF_Version: string } };
  const settings = Object.entries(process.env)
    .filter(([name]) => settingNames.test(name))
    .map(([name, value]) => [name, value?.replace(cacheFolder, '')] as const);
  return JSON.stringify({
    processor: processor(),
    threads: availableParallelism(),
    cards: isOnCard() ? cards() : [],
    library: [binding.TF_Version, tf.version['tfjs-core'], isOnCard()],
    // Words and tokens are cut by Unicode's tables, which a system's own library may hold.
    engine: [process.versions.v8, process.versions.icu, process.versions.unicode],
    settings: settings.sort(([one], [other]) => (one < other ? -1 : 1)),
  });
}
