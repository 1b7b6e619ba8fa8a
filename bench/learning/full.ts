/** @file Training steps of all weights: book-kept clipped gradients, float noise, Adam; and the same without DP. */

import type { DecoderConfig } from '../../learning/decoder/config.ts';
import { compile, disposeTree } from '../../learning/compile/index.ts';
import { adamUpdate } from '../../learning/dp/adam.ts';
import { meanLoss } from '../../learning/decoder/training.ts';
import { compileFullGradient } from '../../learning/dp/book-keeping.ts';
import { tf, type Tensor } from '../../learning/tensorflow.ts';
import { seededStream } from '../../privacy/noise.ts';
import { madeUpWeights } from './lora.ts';
import { localArm, type Arm } from './turns.ts';

export interface FullWork {
  config: DecoderConfig;
  /** Examples of a logical batch. */
  batch: number;
  time: number;
  /** Examples of a microbatch; divides the batch. */
  rows: number;
}

type Inputs = { weights: Record<string, Tensor>; tokens: Tensor; lossWeights: Tensor; present: Tensor };

/** The sum of the examples' gradients by one backward pass that knows nothing of examples. */
function plainGradient(config: DecoderConfig, rows: number, { weights, tokens, lossWeights }: Inputs) {
  const names = Object.keys(weights);
  const loss = (...list: Tensor[]): Tensor => {
    const own = Object.fromEntries(names.map((name, index) => [name, list[index] as Tensor]));
    return meanLoss(config, own, tokens, lossWeights).mul(rows);
  };
  const { grads } = tf.valueAndGrads(loss as never)(names.map((name) => weights[name] as Tensor));
  return { sums: Object.fromEntries(names.map((name, index) => [name, grads[index] as Tensor])) };
}

/**
 * Whole steps, with weights and optimiser on the host as in the adapter's training.
 *
 * @param noiseMultiplier null: without clipping and noise
 */
export function fullArm(name: string, work: FullWork, noiseMultiplier: number | null): Arm & { dispose(): void } {
  const { config, batch, time, rows } = work;
  const clipNorm = 1;
  const start = madeUpWeights(config);
  const parameters = Object.entries(start).map(([key, tensor]) => {
    const values = Float32Array.from(tensor.dataSync());
    const zeros = (): Float32Array => new Float32Array(values.length);
    return { key, shape: tensor.shape, values, first: zeros(), second: zeros(), noise: zeros() };
  });
  const stream = seededStream(2, 'bench tokens and noise');
  const tokens = Int32Array.from({ length: rows * (time + 1) }, () => Math.floor(stream.uniform() * config.vocab));
  const data = {
    tokens: tf.tensor2d(tokens, [rows, time + 1], 'int32') as Tensor,
    lossWeights: tf.fill([rows, time], 1 / time) as Tensor,
    present: tf.ones([rows]) as Tensor,
  };
  const program =
    noiseMultiplier === null
      ? compile((inputs: Inputs) => plainGradient(config, rows, inputs), { weights: start, ...data })
      : compileFullGradient(config, clipNorm, { rows, time });
  disposeTree(start);
  let step = 0;
  const oneStep = (): void => {
    const weights = Object.fromEntries(
      parameters.map(({ key, shape, values }) => [key, tf.tensor(values, shape) as Tensor]),
    );
    const sums = new Map(parameters.map(({ key, values }) => [key, new Float64Array(values.length)]));
    for (let done = 0; done < batch; done += rows) {
      const outputs = program({ weights, ...data });
      for (const [key, sum] of sums) {
        const part = outputs.sums[key]!.dataSync();
        for (let at = 0; at < sum.length; at += 1) sum[at]! += part[at]!;
      }
      disposeTree(outputs);
    }
    disposeTree(weights);
    for (const parameter of parameters) {
      const sum = sums.get(parameter.key)!;
      if (noiseMultiplier !== null) stream.fillGaussian(parameter.noise, noiseMultiplier * clipNorm);
      for (let at = 0; at < sum.length; at += 1) sum[at] = (sum[at]! + parameter.noise[at]!) / batch;
      adamUpdate(parameter, sum, step, 1e-3);
    }
    step += 1;
  };
  const dispose = (): void => {
    program.dispose();
    disposeTree(data);
  };
  return { ...localArm(name, oneStep), dispose };
}
