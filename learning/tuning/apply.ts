/** @file The adapted model's forward pass: hooks that the decoder takes. Pure, fit for `compile`. */

import type { Layers, LinearHook } from '../decoder/blocks.ts';
import type { ModelConfig } from '../decoder/config.ts';
import { plainLayers, type Conditioning, type ForwardOptions } from '../decoder/forward.ts';
import { linear } from '../decoder/layers.ts';
import { weight, type Weights } from '../decoder/weights.ts';
import { tf, type Tensor } from '../tensorflow.ts';
import {
  classBias,
  classInput,
  classOutput,
  loraName,
  loraPlaces,
  promptName,
  type AdapterShape,
  type LoraShape,
} from './parameters.ts';

export type AdapterTensors = Readonly<Record<string, Tensor>>;

/** Adds alpha / rank * (x A^T) B^T to each target layer. */
export function loraHook(adapter: LoraShape, tensors: AdapterTensors): LinearHook {
  return (path, name, x, output) => {
    if (!adapter.targets.includes(name)) return output;
    const { up, down } = loraPair(adapter, tensors, path);
    return output.add(linear(linear(x, down), up));
  };
}

/** alpha / rank * B, and A. */
export function loraPair(
  { alpha, rank }: LoraShape,
  tensors: AdapterTensors,
  path: string,
): { up: Tensor; down: Tensor } {
  const [down, up] = [tensors[loraName(path, 'A')] as Tensor, tensors[loraName(path, 'B')] as Tensor];
  return { up: up.mul(alpha / rank), down };
}

/** A target's matrix with its update: W + alpha / rank * B A. */
export const mergedMatrix = (matrix: Tensor, { up, down }: { up: Tensor; down: Tensor }): Tensor =>
  matrix.add(tf.matMul(up, down));

/** Layers with the updates worked into the matrices. */
export function adaptedLayers(config: ModelConfig, weights: Weights, lora: LoraShape, tensors: AdapterTensors): Layers {
  const plain = plainLayers(weights);
  const paths = new Map(loraPlaces(config, lora).map(({ path }) => [`${path}.weight`, path]));
  return {
    ...plain,
    linear(name, x) {
      const path = paths.get(name);
      if (path === undefined) return plain.linear(name, x);
      return linear(x, mergedMatrix(weight(weights, name), loraPair(lora, tensors, path)));
    },
  };
}

/** Vectors and bias of each row's class. @param labels [batch] int32, each in [0, classes) */
export function classConditioning(tensors: AdapterTensors, labels: Tensor): Conditioning {
  const rows = (name: string): Tensor => tf.gather(tensors[name] as Tensor, labels as never);
  return { input: rows(classInput), output: rows(classOutput), bias: rows(classBias) };
}

/** Everything that the adapter changes, for rows of the given classes. `labels` is not used without conditioning. */
export const adapted = (adapter: AdapterShape, tensors: AdapterTensors, labels: Tensor): ForwardOptions => ({
  adapt: adapter.kind === 'lora' ? loraHook(adapter, tensors) : undefined,
  prompt:
    adapter.kind === 'prompt' ? tf.tile((tensors[promptName] as Tensor).expandDims(0), [labels.size, 1, 1]) : undefined,
  conditioning: adapter.classes > 0 ? classConditioning(tensors, labels) : undefined,
});
