/**
 * @file llama2.c checkpoints, version 0 (`export.py`, legacy): seven int32, then float32 weights. Rotary pairs are
 * neighbours (2i, 2i+1) there and halves (i, i + headDim/2) here, so rows of the query and key matrices are reordered.
 */

import { readFile } from 'node:fs/promises';
import { EpsilonflowError } from '../../schemas/errors.ts';
import {
  attentionNorm,
  checkConfig,
  embeddingName,
  feedForwardNorm,
  finalNorm,
  headDim,
  headName,
  linearNames,
  linearPath,
  linearShape,
  type DecoderConfig,
  type LinearName,
} from '../decoder/config.ts';
import { toHalves } from './rotary-layout.ts';
import type { HostTensors } from './safetensors.ts';

const headerSize = 28;

const damaged = (file: string, what: string): never => {
  throw new EpsilonflowError('MODEL_INVALID', `${file} is no checkpoint of llama2.c: ${what}.`, {
    hint: 'Fetch the file again, or export the model anew as version 0 (legacy, float32).',
  });
};

/** Bytes of the whole file. */
function sizeOf(config: DecoderConfig): number {
  const { dim, layers, vocab, context, tied } = config;
  const products = linearNames(config).map((name) => linearShape(config, name));
  const layer = products.reduce((sum, [outputs, inputs]) => sum + outputs * inputs, 2 * dim);
  const angles = context * headDim(config);
  return headerSize + 4 * ((tied ? 1 : 2) * vocab * dim + layers * layer + dim + angles);
}

function parseHeader(file: string, bytes: Buffer): DecoderConfig {
  if (bytes.length < headerSize) damaged(file, 'its header is cut off');
  const [dim, hidden, layers, heads, kvHeads, vocab, context] = Array.from({ length: 7 }, (_, index) =>
    bytes.readInt32LE(4 * index),
  ) as [number, number, number, number, number, number, number];
  // A negative vocabulary size marks a head of its own.
  return checkConfig({
    family: 'llama',
    dim,
    hidden,
    layers,
    heads,
    kvHeads,
    vocab: Math.abs(vocab),
    context,
    ropeTheta: 10000,
    rmsEps: 1e-5,
    tied: vocab > 0,
  });
}

/** @throws EpsilonflowError MODEL_INVALID when the file is missing or its size does not fit its header. */
export async function readLlama2c(file: string): Promise<{ config: DecoderConfig; weights: HostTensors }> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new EpsilonflowError('MODEL_INVALID', `The weight file ${file} cannot be read.`, {
      hint: 'Fetch it, and let this user read it.',
      cause,
    });
  });
  const config = parseHeader(file, bytes);
  const size = sizeOf(config);
  if (bytes.length !== size) damaged(file, `it has ${bytes.length} bytes, ${size} by its header`);
  const weights: HostTensors = {};
  let offset = headerSize;
  const take = (count: number): Float32Array => {
    const end = offset + 4 * count;
    const values = new Float32Array(count);
    new Uint8Array(values.buffer).set(bytes.subarray(offset, end));
    offset = end;
    return values;
  };
  const vector = (name: string): void => void (weights[name] = { shape: [config.dim], values: take(config.dim) });
  const eachLayer = (read: (layer: number) => void): void => {
    for (let layer = 0; layer < config.layers; layer++) read(layer);
  };
  const matrices = (name: LinearName): void =>
    eachLayer((layer) => {
      const shape = linearShape(config, name);
      const values = take(shape[0] * shape[1]);
      const ordered = name === 'q' || name === 'k' ? toHalves(values, shape[1], headDim(config)) : values;
      weights[`${linearPath(config, layer, name)}.weight`] = { shape, values: ordered };
    });

  weights[embeddingName(config)] = { shape: [config.vocab, config.dim], values: take(config.vocab * config.dim) };
  eachLayer((layer) => vector(`${attentionNorm(config, layer)}.weight`));
  (['q', 'k', 'v', 'o'] as const).forEach(matrices);
  eachLayer((layer) => vector(`${feedForwardNorm(config, layer)}.weight`));
  (['gate', 'down', 'up'] as const).forEach(matrices);
  vector(`${finalNorm(config)}.weight`);
  // Tables of rotary angles, which are computed here.
  take(config.context * headDim(config));
  if (!config.tied) weights[headName] = { shape: [config.vocab, config.dim], values: take(config.vocab * config.dim) };
  return { config, weights };
}
