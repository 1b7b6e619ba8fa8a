/** @file Shape of an encoder of the BERT family and the names and shapes of its weights. */

import { EpsilonflowError } from '../../schemas/errors.ts';

export interface EncoderConfig {
  family: 'bert';
  /** Width of the residual stream. */
  dim: number;
  layers: number;
  heads: number;
  /** Width of the feed-forward. */
  hidden: number;
  vocab: number;
  /** Longest sequence, tokens. */
  context: number;
  /** Row of the first token in the table of positions: 0 in BERT, 2 in RoBERTa. */
  firstPosition: number;
  /** Kinds of segments; all tokens are of the first. */
  segments: number;
  normEps: number;
  /** `gelu` is exact, `gelu-tanh` its approximation. */
  activation: 'gelu' | 'gelu-tanh';
}

export const wordTable = 'embeddings.word_embeddings.weight';
export const positionTable = 'embeddings.position_embeddings.weight';
export const segmentTable = 'embeddings.token_type_embeddings.weight';
export const embeddingNorm = 'embeddings.LayerNorm';
/** `encoder.layer.2.attention.self.query` */
export const layerPath = (layer: number, module: string): string => `encoder.layer.${layer}.${module}`;

/** Checks that the numbers fit together. @throws EpsilonflowError MODEL_INVALID */
export function checkEncoderConfig(config: EncoderConfig): EncoderConfig {
  const faults: string[] = [];
  for (const name of ['dim', 'layers', 'heads', 'hidden', 'vocab', 'context', 'segments'] as const) {
    if (!Number.isInteger(config[name]) || config[name] < 1) faults.push(`${name} must be a positive integer`);
  }
  if (config.dim % config.heads !== 0) faults.push(`dim ${config.dim} is not a multiple of heads ${config.heads}`);
  if (faults.length === 0) return config;
  throw new EpsilonflowError('MODEL_INVALID', `The encoder's shape is wrong: ${faults.join('; ')}.`, {
    hint: 'Fetch its config.json again: it is damaged, or of a kind that is not supported.',
  });
}

/** Every weight's name and shape, in file order. Matrices are [out, in]. */
export function encoderShapes(config: EncoderConfig): Record<string, number[]> {
  const { dim, hidden } = config;
  const shapes: Record<string, number[]> = {
    [wordTable]: [config.vocab, dim],
    [positionTable]: [config.firstPosition + config.context, dim],
    [segmentTable]: [config.segments, dim],
  };
  const addNorm = (path: string): void => {
    shapes[`${path}.weight`] = [dim];
    shapes[`${path}.bias`] = [dim];
  };
  const addLinear = (path: string, outputs: number, inputs: number): void => {
    shapes[`${path}.weight`] = [outputs, inputs];
    shapes[`${path}.bias`] = [outputs];
  };
  addNorm(embeddingNorm);
  for (let layer = 0; layer < config.layers; layer++) {
    for (const part of ['query', 'key', 'value']) addLinear(layerPath(layer, `attention.self.${part}`), dim, dim);
    addLinear(layerPath(layer, 'attention.output.dense'), dim, dim);
    addNorm(layerPath(layer, 'attention.output.LayerNorm'));
    addLinear(layerPath(layer, 'intermediate.dense'), hidden, dim);
    addLinear(layerPath(layer, 'output.dense'), dim, hidden);
    addNorm(layerPath(layer, 'output.LayerNorm'));
  }
  return shapes;
}
