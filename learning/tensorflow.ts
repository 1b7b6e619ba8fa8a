/**
 * @file The one door to TensorFlow: sets up the process, loads `@tensorflow/tfjs-node-gpu`, exports it typed.
 *
 * The native library reads its settings from the environment while it loads, so nothing else may import tfjs first.
 * `EPSILONFLOW_XLA_CACHE` names a folder that keeps compiled programs between processes; without it none is kept.
 */

import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import type * as Tensorflow from '@tensorflow/tfjs-node-gpu';

const require = createRequire(import.meta.url);

/** Quotes a flag's value the way TensorFlow's flag reader understands. */
const quoted = (value: string): string => (/[\s'"]/.test(value) ? `'${value}'` : value);

function setEnvironment(): void {
  const defaults: Record<string, string> = {
    TF_CPP_MIN_LOG_LEVEL: '3',
    // Page faults of the default allocator cost up to a third of a step's time.
    TF_CPU_ALLOCATOR_USE_BFC: 'true',
    TF_ENABLE_ONEDNN_OPTS: '1',
  };
  for (const [name, value] of Object.entries(defaults)) process.env[name] ??= value;
  // Products in whole single precision, whatever is asked for: the bounds of rounding in DP training are of that.
  Object.assign(process.env, {
    // Cards would multiply in ten bits of mantissa otherwise; read by CUDA's libraries alone.
    NVIDIA_TF32_OVERRIDE: '0',
    ONEDNN_DEFAULT_FPMATH_MODE: 'STRICT',
    DNNL_DEFAULT_FPMATH_MODE: 'STRICT',
  });
  delete process.env['TF_SET_ONEDNN_FPMATH_MODE'];
  const cache = process.env['EPSILONFLOW_XLA_CACHE'];
  if (cache && !process.env['TF_XLA_FLAGS']?.includes('tf_xla_persistent_cache_directory')) {
    mkdirSync(cache, { recursive: true });
    const flag = `--tf_xla_persistent_cache_directory=${quoted(cache)}`;
    process.env['TF_XLA_FLAGS'] = [process.env['TF_XLA_FLAGS'], flag].filter(Boolean).join(' ');
  }
}

/**
 * On an NVIDIA card: sums in a fixed order, so that a step repeats bit for bit. XLA reads its flags at the first
 * compilation; before it this is called, and not at import, which would start TensorFlow for those who only read files.
 */
export function setCardFlags(): void {
  const flags = '--xla_gpu_deterministic_ops=true';
  if (!(tf.backend() as unknown as { isUsingGpuDevice: boolean }).isUsingGpuDevice) return;
  if (process.env['XLA_FLAGS']?.includes(flags)) return;
  process.env['XLA_FLAGS'] = [process.env['XLA_FLAGS'], flags].filter(Boolean).join(' ');
}

/** tfjs calls two functions that Node 23 took out of `util`. */
function restoreUtilFunctions(): void {
  const util = require('node:util') as Record<string, unknown>;
  util['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
  util['isArray'] ??= Array.isArray;
}

setEnvironment();
restoreUtilFunctions();

export const tf = require('@tensorflow/tfjs-node-gpu') as typeof Tensorflow;
tf.enableProdMode();

export type Tensor = Tensorflow.Tensor;
export type DataType = 'float32' | 'int32' | 'bool';

/**
 * A tensor whose values TensorFlow has at once. tfjs hands them over at the first use, where they are copied unless they
 * happen to be aligned: those of a whole model would lie in memory twice while the first step is compiled.
 */
export function ownedTensor(values: Float32Array, shape: readonly number[]): Tensor {
  const tensor = tf.tensor(values, [...shape]) as Tensor;
  (tf.backend() as unknown as { getInputTensorIds(tensors: Tensor[]): number[] }).getInputTensorIds([tensor]);
  return tensor;
}
